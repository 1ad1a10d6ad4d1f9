/* home.c - see home.h. */
#include "store/base/home.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "store/base/str.h"

static char *home, *log_dir, *run_dir, *control;

static void text_free(char **text)
{
    free(*text);
    *text = NULL;
}

static void replace(char **place, char *value)
{
    free(*place);
    *place = value;
}

bool home_set(const char *dir, struct err *err)
{
    AUTO(text) char *cwd = NULL;
    char *path;
    size_t n;

    if (!dir || !*dir)
        dir = getenv("POSTERN_HOME");
    if (!dir || !*dir)
        dir = HOME_INSTALLED;
    if (dir[0] == '/')
        path = xstrdup(dir);
    else if ((cwd = getcwd(NULL, 0)) != NULL)
        path = xasprintf("%s/%s", cwd, dir);
    else
        return err_errno(err, errno, "finding the current directory");
    for (n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    replace(&home, path);
    if (strcmp(path, HOME_INSTALLED) == 0) {
        replace(&log_dir, xstrdup("/var/log/postern"));
        replace(&run_dir, xstrdup("/run/postern"));
    } else {
        replace(&log_dir, xasprintf("%s/log", path));
        replace(&run_dir, xasprintf("%s/run", path));
    }
    replace(&control, xasprintf("%s/control", run_dir));
    if (strlen(control) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return err_set(err, E_INVALID,
                       "the home directory's path is too long for a control socket: %s", control);
    return true;
}

static const char *path_of(char *const *place)
{
    if (!*place)
        home_set(NULL, NULL);
    return *place ? *place : "";
}

const char *home_dir(void)
{
    return path_of(&home);
}

const char *home_log_dir(void)
{
    return path_of(&log_dir);
}

const char *home_run_dir(void)
{
    return path_of(&run_dir);
}

const char *home_control(void)
{
    return path_of(&control);
}

char *home_file(const char *name)
{
    return xasprintf("%s/%s", home_dir(), name);
}

bool home_file_name(const char *name, struct err *err)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(name);

    return (n && n <= 120 && name[0] != '.' && strspn(name, allowed) == n) ||
           err_set(err, E_USAGE,
                   "A file name consists of letters, digits, \".\", \"_\" and \"-\", does not "
                   "begin with \".\", and has at most 120 characters.");
}
