/* supervisor.c - see supervisor.h. Straight through: find out as whom the engine runs, make the directories, take the pid
 * file's lock, give up what is not needed, then one loop that starts, serves and waits for the engine. */
#include "daemon/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/ports.h"
#include "daemon/sandbox.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define ENGINE_FD 3
#define FIRST_DELAY 200
#define LONGEST_DELAY SECONDS(30)
#define STABLE_AFTER SECONDS(60)
#define STOP_PATIENCE SECONDS(90) /* longer than the engine's own grace periods together */

static struct {
    uid_t uid, owner; /* the engine's user; who started us */
    gid_t gid;
    int program;      /* descriptor of this very program */
    int pid_file;
    int told;         /* pipe to the process that --daemon left behind, or -1 */
    pid_t engine;
    int link;         /* our end of the engine's socket pair */
    bool ready, was_ready;
    unsigned restarts;
    msec_t delay, started;
    char last_exit[160];
} self = {.told = -1, .link = -1, .pid_file = -1};

static volatile sig_atomic_t stop_signal, child_signal;

static void on_stop(int sig)
{
    stop_signal = sig;
}

static void on_child(int sig)
{
    child_signal = sig;
}

/* Can uid work in this directory, all parents of it included? Asked by becoming that user. */
static bool reachable(const char *dir, uid_t uid, gid_t gid)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (setgroups(1, &gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
            _exit(2);
        _exit(access(dir, X_OK) == 0 ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash > path ? xstrndup(path, (size_t)(slash - path)) : xstrdup("/");
}

/* Without root there is no choice. As root: --user; else the home's owner; else, for a home that is root's or new,
 * postern or nobody, whoever can reach it. A development tree below /root can be reached by neither: there the
 * engine keeps root's name, but not root's rights. */
static bool choose_user(const char *wanted, struct err *err)
{
    static const char *const candidates[] = {"postern", "nobody"};
    const struct passwd *pw;
    struct stat st;
    bool exists = stat(home_dir(), &st) == 0;
    char *base;

    self.owner = self.uid = getuid();
    self.gid = getgid();
    if (geteuid() != 0) {
        if (wanted)
            return err_set(err, E_DENIED, "only root can choose the engine's user");
        return true;
    }
    if (wanted) {
        pw = getpwnam(wanted);
        if (!pw)
            return err_set(err, E_NOT_FOUND, "there is no user %s", str_printable(wanted));
        self.uid = pw->pw_uid;
        self.gid = pw->pw_gid;
        return true;
    }
    if (exists && st.st_uid != 0) {
        self.uid = st.st_uid;
        self.gid = st.st_gid;
        return true;
    }
    base = parent_of(home_dir());
    for (size_t i = 0; i < countof(candidates) && self.uid == 0; i++) {
        pw = getpwnam(candidates[i]);
        if (pw && reachable(base, pw->pw_uid, pw->pw_gid)) {
            self.uid = pw->pw_uid;
            self.gid = pw->pw_gid;
        }
    }
    if (self.uid == 0)
        log_warning("no unprivileged user can reach %s: the engine runs as root, without root's "
                    "capabilities; use --user, or another place for the home",
                    base);
    free(base);
    return true;
}

static int give_away(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return lchown(path, self.uid, self.gid);
}

/* Makes it if need be, for the engine's user. What belongs to root (made by us, or by an earlier engine that ran as
 * root) is handed over; nobody else could have put anything there. */
static bool make_directory(const char *path, mode_t mode, struct err *err)
{
    struct stat st;

    if (mkdir(path, mode) == 0)
        (void)!chmod(path, mode);
    else if (errno != EEXIST)
        return err_errno(err, errno, "creating %s", path);
    if (lstat(path, &st) != 0)
        return err_errno(err, errno, "looking at %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, E_IO, "%s is not a directory", path);
    if (geteuid() == 0 && st.st_uid == 0 && self.uid != 0 &&
        nftw(path, give_away, 16, FTW_PHYS | FTW_MOUNT) != 0)
        return err_errno(err, errno, "giving %s to the engine's user", path);
    return true;
}

/* One gateway per home: the lock lives as long as this process. */
static bool take_pid_file(struct err *err)
{
    char *path = xasprintf("%s/posternd.pid", home_run_dir());
    char text[24] = "";
    bool ok = false;

    self.pid_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (self.pid_file < 0) {
        err_errno(err, errno, "opening %s", path);
    } else if (flock(self.pid_file, LOCK_EX | LOCK_NB) != 0) {
        (void)!read(self.pid_file, text, sizeof(text) - 1);
        err_set(err, E_BUSY, "posternd is already running on %s (pid %s)", home_dir(),
                str_trim(text));
    } else {
        snprintf(text, sizeof(text), "%d\n", (int)getpid());
        (void)!fchmod(self.pid_file, 0644);
        ok = ftruncate(self.pid_file, 0) == 0 &&
             write(self.pid_file, text, strlen(text)) == (ssize_t)strlen(text);
        if (!ok)
            err_errno(err, errno, "writing %s", path);
    }
    free(path);
    return ok;
}

/* As many descriptors as we may have: every session needs one. */
static void raise_limits(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return;
    if (geteuid() == 0 && r.rlim_max < 262144) {
        struct rlimit more = {262144, 262144};

        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
    }
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

static void tell_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof(sun.sun_path))
        return;
    memcpy(sun.sun_path, path, n);
    if (sun.sun_path[0] == '@')
        sun.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sun,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

/* In the new process: becomes the engine. Never returns. */
static void become_engine(int link)
{
    char restarts[16], owner[16], fd[16];
    char *home = xstrdup(home_dir());
    char *argv[] = {(char[]){"posternd"}, (char[]){"--home"},   home,
                    (char[]){"--engine"}, fd,                   (char[]){"--restarts"},
                    restarts,             (char[]){"--owner"},  owner,
                    NULL};
    struct err err = {0};
    sigset_t none;
    int program = self.program;

    snprintf(fd, sizeof(fd), "%d", ENGINE_FD);
    snprintf(restarts, sizeof(restarts), "%u", self.restarts);
    snprintf(owner, sizeof(owner), "%u", (unsigned)self.owner);
    if (self.last_exit[0])
        setenv("POSTERN_LAST_EXIT", self.last_exit, 1);
    unsetenv("NOTIFY_SOCKET");
    /* The link becomes descriptor 3, the program 4; nothing else is inherited. */
    program = fcntl(program, F_DUPFD_CLOEXEC, ENGINE_FD + 2);
    link = fcntl(link, F_DUPFD_CLOEXEC, ENGINE_FD + 2);
    if (program < 0 || link < 0 || dup2(link, ENGINE_FD) < 0 ||
        dup3(program, ENGINE_FD + 1, O_CLOEXEC) < 0)
        _exit(70);
    close_range(ENGINE_FD + 2, ~0u, 0);
    signal(SIGTERM, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole process group; we pass it on */
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!sandbox_engine_user(self.uid, self.gid, &err)) {
        log_critical("starting the engine: %s", err.text);
        _exit(70);
    }
    fexecve(ENGINE_FD + 1, argv, environ);
    log_critical("executing the engine: %s", strerror(errno));
    _exit(70);
}

static void start_engine(void)
{
    int pair[2];

    self.ready = false;
    self.started = clock_now();
    self.engine = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        log_critical("starting the engine: %s", strerror(errno));
        return;
    }
    self.engine = fork();
    if (self.engine == 0)
        become_engine(pair[1]);
    close(pair[1]);
    if (self.engine < 0) {
        log_critical("starting the engine: %s", strerror(errno));
        close(pair[0]);
        return;
    }
    self.link = pair[0];
}

static void engine_is_ready(void)
{
    if (self.ready)
        return;
    self.ready = self.was_ready = true;
    tell_systemd("READY=1");
    if (self.told >= 0) {
        (void)!write(self.told, "k", 1);
        close(self.told);
        self.told = -1;
    }
}

static void serve_engine(void)
{
    char text[256];
    ssize_t n = recv(self.link, text, sizeof(text), MSG_DONTWAIT);

    if (n > 0) {
        if (ports_serve(self.link, text, (size_t)n))
            engine_is_ready();
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(self.link); /* SIGCHLD follows */
        self.link = -1;
    }
}

static void describe_exit(int status)
{
    if (WIFSIGNALED(status))
        snprintf(self.last_exit, sizeof(self.last_exit), "killed by signal %d (%s)",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(self.last_exit, sizeof(self.last_exit), "exit status %d", WEXITSTATUS(status));
}

/* Reaps the engine if it has ended. Returns true when it has. */
static bool engine_ended(int *status)
{
    if (self.engine <= 0 || waitpid(self.engine, status, WNOHANG) != self.engine)
        return false;
    if (self.link >= 0)
        close(self.link);
    self.link = -1;
    self.engine = -1;
    return true;
}

/* Waits for a message of the engine, a signal, or until the point in time. The signals are let in here only. */
static void wait_for_something(msec_t until, const sigset_t *open_mask)
{
    struct pollfd p = {.fd = self.link, .events = POLLIN};
    msec_t left = until == NEVER ? SECONDS(3600) : until - clock_now();
    struct timespec ts;

    if (left < 0)
        left = 0;
    ts = (struct timespec){left / 1000, (left % 1000) * 1000000};
    if (ppoll(&p, self.link >= 0 ? 1 : 0, &ts, open_mask) > 0)
        serve_engine();
}

static int supervise(const sigset_t *open_mask)
{
    msec_t restart_at = NEVER, kill_at = NEVER;
    bool stopping = false;
    int status;

    start_engine();
    for (;;) {
        if (self.engine <= 0 && restart_at == NEVER && !stopping)
            restart_at = clock_in(self.delay); /* it could not even be started */
        wait_for_something(stopping ? kill_at : restart_at, open_mask);
        child_signal = 0;
        if (engine_ended(&status)) {
            if (stopping && WIFEXITED(status))
                return WEXITSTATUS(status);
            describe_exit(status);
            if (stopping) { /* SIGTERM may come before the engine waits for it */
                if (WTERMSIG(status) == SIGTERM)
                    return 0;
                log_critical("the engine ended: %s", self.last_exit);
                return 1;
            }
            if (!self.was_ready) {
                log_critical("the engine could not start: %s", self.last_exit);
                return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
            }
            if (clock_now() - self.started > STABLE_AFTER)
                self.delay = FIRST_DELAY;
            self.restarts++;
            log_critical("the engine ended: %s; restart %u in %.1f s", self.last_exit,
                         self.restarts, (double)self.delay / 1000);
            restart_at = clock_in(self.delay);
            self.delay = self.delay * 2 < LONGEST_DELAY ? self.delay * 2 : LONGEST_DELAY;
        }
        if (stop_signal && !stopping) {
            stopping = true;
            tell_systemd("STOPPING=1");
            if (self.engine <= 0)
                return 0;
            kill(self.engine, SIGTERM);
            kill_at = clock_in(STOP_PATIENCE);
        } else if (stopping && clock_now() >= kill_at) {
            log_critical("the engine does not end and is killed");
            kill(self.engine, SIGKILL);
            kill_at = NEVER;
        } else if (!stopping && clock_now() >= restart_at) {
            restart_at = NEVER;
            start_engine();
        }
    }
}

static char *log_path(void)
{
    return xasprintf("%s/posternd.log", home_log_dir());
}

/* What parent and engine said since: it went to the log, and somebody waits at a terminal. */
static void show_log(off_t since)
{
    char *path = log_path(), text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n;

    while (fd >= 0 && (n = pread(fd, text, sizeof(text), since)) > 0) {
        (void)!write(STDERR_FILENO, text, (size_t)n);
        since += n;
    }
    if (fd >= 0)
        close(fd);
    free(path);
}

/* Returns in the child; the caller's process waits for the engine's readiness and ends with the outcome. */
static bool detach(struct err *err)
{
    char *path = log_path();
    struct stat log = {0};
    int pipe_ends[2];
    pid_t pid;
    char byte;

    (void)!stat(path, &log); /* not there yet: size 0 */
    free(path);
    if (pipe2(pipe_ends, O_CLOEXEC) != 0)
        return err_errno(err, errno, "detaching");
    pid = fork();
    if (pid < 0)
        return err_errno(err, errno, "detaching");
    if (pid > 0) {
        ssize_t n;
        int status = 1;

        close(pipe_ends[1]);
        do
            n = read(pipe_ends[0], &byte, 1);
        while (n < 0 && errno == EINTR);
        if (n == 1)
            _exit(0);
        show_log(log.st_size);
        waitpid(pid, &status, 0);
        _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
    }
    close(pipe_ends[0]);
    self.told = pipe_ends[1];
    setsid();
    return true;
}

/* After the start has succeeded nobody reads our terminal any more; until then errors are shown there too. */
static bool redirect_output(struct err *err)
{
    char *path = log_path();
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ok = fd >= 0 && null >= 0 && dup2(null, 0) >= 0 && dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0;

    if (!ok)
        err_errno(err, errno, "opening %s", path);
    if (fd > 2)
        close(fd);
    if (null > 2)
        close(null);
    free(path);
    return ok;
}

static bool prepare(const struct supervisor *s, struct err *err)
{
    self.program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self.program < 0)
        return err_errno(err, errno, "opening this program");
    umask(077);
    if (!choose_user(s->user, err) || !make_directory(home_dir(), 0700, err) ||
        !make_directory(home_log_dir(), 0700, err) || !make_directory(home_run_dir(), 0755, err))
        return false;
    if (s->detach && !detach(err))
        return false;
    if (!take_pid_file(err) || (s->detach && !redirect_output(err)))
        return false;
    raise_limits();
    return sandbox_parent(err);
}

int supervisor_run(const struct supervisor *s)
{
    static const int handled[] = {SIGTERM, SIGINT, SIGCHLD};
    struct sigaction act = {.sa_handler = on_stop};
    sigset_t blocked, open_mask;
    struct err err = {0};
    int status;

    close_range(3, ~0u, 0); /* whatever the caller left open */
    if (!prepare(s, &err)) {
        fprintf(stderr, "posternd: %s\n", err.text);
        return 1;
    }
    sigemptyset(&blocked);
    for (size_t i = 0; i < countof(handled); i++)
        sigaddset(&blocked, handled[i]);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    act.sa_handler = on_child;
    sigaction(SIGCHLD, &act, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    self.delay = FIRST_DELAY;
    status = supervise(&open_mask);
    (void)!ftruncate(self.pid_file, 0);
    return status;
}
