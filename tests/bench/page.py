# Tables of a Markdown page, replaced between the lines <!-- bench:NAME --> and <!-- /bench:NAME -->.

import re


def table(head, rows):
    """Rows of texts; the first column is shown when it changes."""
    lines = ["| %s |" % " | ".join(head), "|%s" % (" --- |" * len(head))]
    last = None
    for row in rows:
        lines.append("| %s |" % " | ".join(("" if row[0] == last else row[0],) + tuple(row[1:])))
        last = row[0]
    return "\n".join(lines) if rows else "Not measured."


def replace(file, name, text):
    with open(file) as f:
        page = f.read()
    page, found = re.subn(r"(<!-- bench:%s -->\n).*?(<!-- /bench:%s -->)" % (name, name),
                          lambda m: m.group(1) + "\n" + text.strip("\n") + "\n\n" + m.group(2), page, flags=re.S)
    if found != 1:
        raise ValueError("%s: no one place marked bench:%s" % (file, name))
    with open(file, "w") as f:
        f.write(page)
