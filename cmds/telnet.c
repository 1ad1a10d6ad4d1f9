/* telnet.c - telnet and ping. The daemon connects, for the console has no network; what comes is
 * escaped here. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>

/* A line at a time; CR LF and LF end one. */
static void print_text(struct ui *ui, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\r\n");
        AUTO(buf) struct buf line = BUF_INIT(300u << 10);

        str_escape(&line, text, n);
        out_line(ui, "%s", buf_str(&line));
        text += n;
        text += *text == '\r';
        text += *text == '\n';
    }
}

static void talk(struct ui *ui, struct session *s, json_t *data)
{
    struct ui_question q = {.text = "",
                            .key = "line",
                            .deflt = "",
                            .bare = true,
                            .help =
                                "A line to send. Ctrl-C or an empty line closes the connection; "
                                "a single \".\" is sent as it is."};

    while (data && json_bool_of(data, "open", false) && !ui_failed(ui)) {
        const char *line = ui_ask(ui, &q);
        json_t *args;

        if (ui_failed(ui) || !*line)
            break;
        args = json_object();
        json_put_str(args, "line", line);
        json_decref(data);
        data = session_call(s, ui, "telnet.send", args);
        if (data)
            print_text(ui, json_str(data, "text", ""));
    }
    if (data)
        ui_say(ui, "Connection closed.");
    json_decref(data);
    if (!ui_failed(ui))
        json_decref(session_call(s, ui, "telnet.close", json_object()));
}

static void run_telnet(struct ui *ui, struct session *s)
{
    json_t *args = json_object(), *data;

    json_put_str(args, "host", ask_some(ui, "host", "Enter the remote hostname or IP address."));
    json_put_int(args, "port",
                 (json_int_t)ask_number(ui, "port", "Enter the remote port.", 25, 1, 65535));
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    ui_say(ui, "Trying %s...", json_str(args, "host", ""));
    data = session_call(s, ui, "telnet.open", args);
    if (!data)
        return;
    ui_say(ui, "Connected to %s.\nAn empty line or Ctrl-C closes the connection.",
           json_str(data, "address", ""));
    print_text(ui, json_str(data, "text", ""));
    if (ui_interactive(ui)) {
        talk(ui, s, data);
        return;
    }
    out_data(ui, data);
    json_decref(session_call(s, ui, "telnet.close", json_object()));
}

const struct command cmd_telnet = {
    .name = "telnet",
    .help = "Connect to a remote host",
    .usage = "telnet HOST [PORT]",
    .detail = "Shows what the host says and sends the lines that are typed. The connection ends "
              "after a minute without a line. In batch only the greeting is shown. The audit log "
              "keeps where to.",
    .roles = ROLE_OPERATOR,
    .run = run_telnet,
};

static bool print_ping(void *ui, const json_t *data)
{
    out_stream(ui, json_str(data, "line", ""), json_deep_copy(data));
    return !out_stopped(ui);
}

static void run_ping(struct ui *ui, struct session *s)
{
    const char *count = ui_option(ui, "-c");
    json_t *args = json_object();

    json_put_str(args, "host", ask_some(ui, "host", "Please enter the host you wish to ping."));
    json_put_int(args, "count", count ? strtol(count, NULL, 10) : ui_interactive(ui) ? 1000 : 5);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    ui_say(ui, "Press Ctrl-C to stop.");
    session_stream(s, ui, "net.ping", args, print_ping, ui);
}

const struct command cmd_ping = {
    .name = "ping",
    .help = "Ping a network host",
    .usage = "ping [-c COUNT] HOST",
    .detail = "One echo request a second, until Ctrl-C or COUNT; five in batch.",
    .roles = ROLE_OPERATOR,
    .run = run_ping,
};
