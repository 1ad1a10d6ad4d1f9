# The tools of the bench: the counting library counts what a program did, and the page has a place for every table.

import os
import re
import sys

import lab

sys.path.insert(0, os.path.join(lab.ROOT, "tests", "bench"))
import counts  # noqa: E402
import page  # noqa: E402


@lab.test("allocations, syncs and bytes of a program and of what it starts are counted")
def counted():
    if "asan" in lab.BUILD or "tsan" in lab.BUILD:
        lab.skip("a sanitizer has an allocator of its own")
    box = lab.Sandbox()
    file = counts.new_file(box.path("counters"))
    env = dict(os.environ, LD_PRELOAD=counts.library(), COUNT_FILE=file)
    before = counts.read_file(file)
    lab.equal(set(before.values()), {0})
    for _ in range(2):
        lab.run(["sh", "-c", "dd if=/dev/zero of=%s bs=1000 count=10 conv=fsync" % box.path("out")], env=env)
    found = counts.read_file(file)
    lab.equal(found["syncs"], 2)
    lab.equal(found["bytes written"], 2 * 10 * 1000)
    lab.equal(found["bytes read"] >= 2 * 10 * 1000, True)
    lab.equal(found["allocations"] > 10 and found["bytes allocated"] > 1000, True, str(found))


@lab.test("the page on performance has one place for every table the benches write")
def places():
    box = lab.Sandbox()
    text = lab.read_text(os.path.join(lab.ROOT, "doc", "performance.md"))
    copy = box.write("page.md", text)
    names = set()
    for bench in ("bench.py", "bench_queue.py"):
        names |= set(re.findall(r'page\.replace\([^"]*(?:"PAGE"\], )?"([a-z]+)"',
                                lab.read_text(os.path.join(lab.ROOT, "tests", "bench", bench))))
    lab.equal(names, set(re.findall(r"<!-- bench:(\w+) -->", text)))
    for name in names:
        page.replace(copy, name, page.table(("a", "b"), [("x", "\\1"), ("x", name)]))
    once = lab.read_text(copy)
    for name in names:
        lab.equal(once.count("| x | \\1 |\n|  | %s |\n\n<!-- /bench:%s -->" % (name, name)), 1)
    page.replace(copy, "rates", page.table(("a", "b"), [("x", "\\1"), ("x", "rates")]))
    lab.equal(lab.read_text(copy), once, "the same again changes nothing")


@lab.test("a page without the place is left as it is")
def no_place():
    box = lab.Sandbox()
    file = box.write("page.md", "no table here\n")
    try:
        page.replace(file, "rates", "x")
    except ValueError:
        pass
    else:
        raise lab.Failure("no error")
    lab.equal(lab.read_text(file), "no table here\n")


lab.main()
