//! The daemon under test: ours or one of those it replaces, started alike.

use super::net::{DIR, Net};
use super::{PATIENCE, until};
use std::fs::{self, File};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    Usherd,
    Xinetd,
    OpenbsdInetd,
    InetutilsInetd,
}

/// A configuration and the grammar it is written in.
#[derive(Clone, Copy, Debug)]
pub enum Conf<'a> {
    Xinetd(&'a str),
    Inetd(&'a str),
}

/// What every daemon has in its environment, and nothing else.
pub const ENVIRONMENT: [(&str, &str); 5] = [
    ("CANARY", "sings"),
    ("HOME", "/root"),
    ("LANG", "C"),
    ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
    ("TZ", "UTC"),
];

/// What is special about a start.
#[derive(Default)]
pub struct Launch<'a> {
    /// A script that ends with `exec "$@"`: the daemon keeps the shell's process and what it set up.
    pub shell: Option<&'a str>,
    /// Descriptors the daemon finds from 3 on, at most 64.
    pub inherited: Vec<RawFd>,
    /// Instead of the file that [`Daemon::log`] reads.
    pub stderr: Option<Stdio>,
    /// The kernel seems to know no IPv6.
    pub without_ipv6: bool,
}

/// Lets socket(2) answer EAFNOSUPPORT to AF_INET6, as a kernel built or started without IPv6 does.
fn forbid_ipv6() -> std::io::Result<()> {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, equal, give) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0x15, libc::BPF_RET);
    let filter = [
        // seccomp_data: the call's number at 0, its first argument at 16 (little end first).
        op(load, 0, 0, 0),
        op(equal, 0, 3, libc::SYS_socket as u32),
        op(load, 0, 0, 16),
        op(equal, 0, 1, libc::AF_INET6 as u32),
        op(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32),
        op(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program lives until the call returns; root may do without no_new_privs.
    let rc = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

const FILE_LOG: &str = "/run/test/daemon.log";

pub struct Daemon<'n> {
    pub subject: Subject,
    net: &'n Net,
    child: Child,
    logs: Vec<PathBuf>,
    conf: PathBuf,
    ended: Option<ExitStatus>,
}

impl<'n> Daemon<'n> {
    /// Starts a subject in the foreground. It may not be ready yet: see [`Daemon::ready`].
    pub fn start(net: &'n Net, subject: Subject, conf: Conf) -> Daemon<'n> {
        let (text, format) = match conf {
            Conf::Xinetd(text) => (text, "xinetd"),
            Conf::Inetd(text) => (text, "inetd"),
        };
        let conf = net.write("conf", text);
        Daemon::start_with(net, subject, conf, &["-format", format])
    }

    /// Starts a subject with a configuration that is in place already. `ours` are arguments for usherd alone.
    pub fn start_with(net: &'n Net, subject: Subject, conf: PathBuf, ours: &[&str]) -> Daemon<'n> {
        let mut args: Vec<&str> = match subject {
            // Without a terminal xinetd's -d cannot start; -dontfork would log to syslog alone.
            Subject::Usherd | Subject::Xinetd => {
                vec!["-dontfork", "-filelog", FILE_LOG, "-pidfile", "/run/daemon.pid", "-f"]
            }
            Subject::OpenbsdInetd => vec!["-i"],
            // Its only way to stay in the foreground.
            Subject::InetutilsInetd => vec!["-d"],
        };
        args.push(conf.to_str().expect("a printable path"));
        if subject == Subject::Usherd {
            args.extend(ours);
        }
        let mut daemon = Daemon::run(net, subject, &args);
        daemon.conf = conf;
        daemon
    }

    /// Starts a subject with exactly these arguments.
    pub fn run(net: &'n Net, subject: Subject, args: &[&str]) -> Daemon<'n> {
        Daemon::launch(net, subject, args, Launch::default())
    }

    /// Starts a subject with exactly these arguments, in special circumstances.
    pub fn launch(net: &'n Net, subject: Subject, args: &[&str], launch: Launch) -> Daemon<'n> {
        let stderr_log = PathBuf::from(DIR).join("daemon.stderr");
        let program = match subject {
            Subject::Usherd => usherd(),
            Subject::Xinetd => net.peer("xinetd", "usr/sbin/xinetd"),
            Subject::OpenbsdInetd => net.peer("openbsd-inetd", "usr/sbin/inetd"),
            Subject::InetutilsInetd => net.peer("inetutils-inetd", "usr/sbin/inetutils-inetd"),
        };
        let mut command = match launch.shell {
            None => Command::new(program),
            Some(script) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", script, "sh"]).arg(program);
                command
            }
        };
        let stderr = File::create(&stderr_log).expect("log file");
        command
            .args(args)
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stderr.try_clone().expect("clone a file"));
        match launch.stderr {
            Some(other) => command.stderr(other),
            None => command.stderr(stderr),
        };
        for (name, value) in net.environment() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // The same ground for every subject and on every machine.
                let set = |resource, soft, hard| {
                    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
                    libc::setrlimit(resource, &limit)
                };
                set(libc::RLIMIT_NOFILE, 256, 1024);
                set(libc::RLIMIT_STACK, 8 << 20, libc::RLIM_INFINITY);
                set(libc::RLIMIT_CORE, 0, libc::RLIM_INFINITY);
                // Not everywhere may root raise a hard limit; here nowhere.
                const CAP_SYS_RESOURCE: libc::c_ulong = 24;
                libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0);
                libc::umask(0o002);
                libc::setgroups(1, [0].as_ptr());
                libc::setpgid(0, 0);
                // What the runner of the tests leaves open or ignored is not the daemon's to hand on. The libc
                // refuses to touch the signals it keeps for itself, hence the call by number; zeros mean default.
                for signal in 1..=64 {
                    let default = [0u64; 4];
                    libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize);
                }
                libc::syscall(libc::SYS_close_range, 3, !0u32, libc::CLOSE_RANGE_CLOEXEC);
                // A killed test run leaves no daemon behind.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
            let inherited = launch.inherited;
            command.pre_exec(move || {
                // First out of the way: a source may have the number that another is to get.
                let mut aside = [0; 64];
                for (from, to) in inherited.iter().zip(&mut aside) {
                    *to = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, 100);
                }
                for (from, to) in aside.iter().zip(3..).take(inherited.len()) {
                    libc::dup2(*from, to);
                }
                if launch.without_ipv6 {
                    forbid_ipv6()?;
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("start {subject:?}: {e}"));
        Daemon {
            subject,
            net,
            child,
            logs: vec![FILE_LOG.into(), stderr_log],
            conf: PathBuf::new(),
            ended: None,
        }
    }

    /// Waits until these ports are open: `tcp/9901`, `udp/69`.
    pub fn ready(mut self, ports: &[&str]) -> Self {
        for port in ports {
            self.wait_open(port);
        }
        self
    }

    pub fn wait_open(&mut self, port: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !is_open(port) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{:?} ended with {status} before {port} was open:\n{}", self.subject, self.log());
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{:?} does not open {port}:\n{}", self.subject, self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn wait_closed(&mut self, port: &str) {
        until(&format!("{:?} closes {port}", self.subject), || (!is_open(port)).then_some(()));
    }

    /// Everything it logged, wherever to.
    pub fn log(&self) -> String {
        let mut all = String::new();
        for path in &self.logs {
            all.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()));
        }
        all.push_str(&self.net.syslog());
        all
    }

    /// What it wrote to its standard output and error.
    pub fn said(&self) -> String {
        let said = fs::read(Path::new(DIR).join("daemon.stderr")).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    pub fn wait_log(&self, needle: &str) {
        self.wait_log_times(needle, 1);
    }

    /// Waits until something was logged so often.
    pub fn wait_log_times(&self, needle: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.log().matches(needle).count() < times {
            let late = Instant::now() > deadline;
            assert!(!late, "{:?} did not log {needle:?} {times} times:\n{}", self.subject, self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its state dump. It is written piece by piece: whole when its last line is there.
    pub fn dump(&self) -> String {
        let path = match self.subject {
            Subject::Usherd => "/run/usherd.dump",
            Subject::Xinetd => "/run/xinetd.dump",
            Subject::OpenbsdInetd | Subject::InetutilsInetd => panic!("{:?} dumps nothing", self.subject),
        };
        let _ = fs::remove_file(path);
        self.signal(libc::SIGUSR1);
        until("a dump", || {
            let text = fs::read_to_string(path).ok()?;
            text.trim_end().ends_with("END OF DUMP").then_some(text)
        })
    }

    /// Replaces the configuration and asks for a reload.
    pub fn reload(&self, text: &str) {
        self.net.write(&self.conf, text);
        self.signal(libc::SIGHUP);
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a child that was not waited for yet, so the number is still its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "signal {signal}");
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn running(&mut self) -> bool {
        self.ended.is_none() && matches!(self.child.try_wait(), Ok(None))
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                self.ended = Some(status);
                return status;
            }
            assert!(Instant::now() < deadline, "{:?} does not exit:\n{}", self.subject, self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {:?}\n{}---", self.subject, self.log());
        }
        // The next subject in the same net starts with logs of its own.
        for log in &self.logs {
            let _ = fs::remove_file(log);
        }
    }
}

/// The daemon under test, of ours: `USHERD_BIN`, or the one that cargo has built with the tests.
pub fn usherd() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_usherd").map(PathBuf::from);
    let path = std::env::var_os("USHERD_BIN").map(PathBuf::from).or(built);
    path.expect("the daemon is only built with the feature linux")
}

/// Whether a socket is bound to the port (and listens, if TCP) in this namespace.
pub fn is_open(port: &str) -> bool {
    let (proto, number) = port.split_once('/').expect("proto/port");
    let number: u16 = number.parse().expect("a port number");
    let state = if proto.starts_with("tcp") { "0A" } else { "07" };
    let tables: &[&str] = match proto {
        "tcp" => &["tcp", "tcp6"],
        "udp" => &["udp", "udp6"],
        "tcp4" => &["tcp"],
        "udp4" => &["udp"],
        "tcp6" => &["tcp6"],
        "udp6" => &["udp6"],
        _ => panic!("{proto}"),
    };
    tables.iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        text.lines().skip(1).any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().and_then(|w| w.rsplit_once(':'));
            let port = local.and_then(|(_, p)| u16::from_str_radix(p, 16).ok());
            port == Some(number) && words.nth(1) == Some(state)
        })
    })
}
