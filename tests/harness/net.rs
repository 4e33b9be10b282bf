//! A private network and private system files for one test.
//!
//! The thread of the test moves itself into a new network namespace and a new mount namespace. Whatever it starts
//! from then on, threads and processes, starts inside; so clients are plain `std::net` code. When the last process
//! is gone the kernel removes both, whatever became of the test.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The test's own directory; /run is a fresh tmpfs inside, so the name is free and the same for every test.
pub const DIR: &str = "/run/test";

/// The service programs that [`super::probe`] implements, under the names they are executed by.
pub const PROGRAMS: [&str; 7] =
    ["probe", "udpecho", "udponce", "udpstays", "acceptecho", "sessionecho", "attacker"];

pub struct Net {
    namespace: PathBuf,
    syslog: Arc<Mutex<String>>,
    syslog_socket: UnixDatagram,
    over: Arc<AtomicBool>,
    peers_ready: AtomicBool,
    environment: Mutex<Vec<(String, Option<String>)>>,
}

/// Runs a test body in a network of its own, and passes its panic on.
pub fn in_net<R: Send + 'static>(body: impl FnOnce(&Net) -> R + Send + 'static) -> R {
    // A thread of its own, since a thread cannot leave namespaces again and libtest may reuse its threads.
    let thread = thread::spawn(move || {
        let net = Net::enter();
        body(&net)
    });
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

impl Net {
    fn enter() -> Net {
        // SAFETY: no arguments; cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        assert!(root, "these tests make namespaces and change users: run them as root");
        // SAFETY: affects the calling thread only.
        let rc = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        check(rc, "unshare a network and a mount namespace");
        mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE, "");
        loopback_up();

        let exe = std::env::current_exe().expect("own path");
        let peers = peers_dir();
        // Looked at before /run is covered: a working copy may live there.
        let programs = File::open(&exe).expect("own file");
        let peers_fd = File::open(&peers).ok();
        mount("tmpfs", "/run", Some("tmpfs"), 0, "mode=755");
        if !Path::new("/var/run").is_symlink() {
            bind(Path::new("/run"), Path::new("/var/run"));
        }
        fs::create_dir(DIR).expect("test directory");
        for name in PROGRAMS {
            let to = dir().join(name);
            File::create(&to).expect("mount point of a program");
            bind(&by_fd(&programs), &to);
        }
        if let Some(fd) = peers_fd {
            fs::create_dir(dir().join("peers")).expect("mount point of the peers");
            bind(&by_fd(&fd), &dir().join("peers"));
        }
        private_etc();
        private_dev();

        let syslog_socket = UnixDatagram::bind("/dev/log").expect("bind /dev/log");
        fs::set_permissions("/dev/log", Permissions::from_mode(0o666)).expect("mode of /dev/log");
        let syslog = Arc::new(Mutex::new(String::new()));
        let over = Arc::new(AtomicBool::new(false));
        let net = Net {
            namespace: fs::read_link("/proc/thread-self/ns/net").expect("name of the namespace"),
            syslog: syslog.clone(),
            syslog_socket: syslog_socket.try_clone().expect("clone a socket"),
            over: over.clone(),
            peers_ready: AtomicBool::new(false),
            environment: Mutex::default(),
        };
        thread::spawn(move || {
            let mut packet = [0; 8192];
            while let Ok(n) = syslog_socket.recv(&mut packet) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let mut log = syslog.lock().expect("log");
                log.push_str(&String::from_utf8_lossy(&packet[..n]));
                log.push('\n');
            }
        });
        net
    }

    pub fn dir(&self) -> &'static Path {
        dir()
    }

    /// Writes a file, of which the host sees nothing as long as it is below /etc, /run or /dev.
    pub fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = dir().join(path);
        assert!(
            ["/etc/", "/run/", "/dev/"].iter().any(|p| path.starts_with(p)),
            "{path:?} is not private to the test"
        );
        // A name in /etc may be a link to the host's file: replaced, never followed.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap_or_else(|e| panic!("write {path:?}: {e}"));
        path
    }

    /// Writes an executable file.
    pub fn script(&self, path: impl AsRef<Path>, text: &str) -> PathBuf {
        let path = self.write(path, text);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("mode of a script");
        path
    }

    /// Adds lines to a private file.
    pub fn append(&self, path: &str, text: &str) {
        let mut all = fs::read(path).unwrap_or_default();
        all.extend_from_slice(text.as_bytes());
        self.write(path, all);
    }

    /// Gives lo another IPv6 address, if it has it not.
    pub fn add_address(&self, address: &str) {
        let address: std::net::Ipv6Addr = address.parse().expect("an IPv6 address");
        // SAFETY: the request lives until the call returns; the name ends in NUL; the socket is closed again.
        unsafe {
            let fd = libc::socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            let request = libc::in6_ifreq {
                ifr6_addr: libc::in6_addr { s6_addr: address.octets() },
                ifr6_prefixlen: 128,
                ifr6_ifindex: libc::if_nametoindex(c"lo".as_ptr()) as libc::c_int,
            };
            let rc = libc::ioctl(fd, libc::SIOCSIFADDR, &request);
            // It may have it already.
            if std::io::Error::last_os_error().raw_os_error() != Some(libc::EEXIST) {
                check(rc, "give lo an address");
            }
            libc::close(fd);
        }
        // The kernel makes it usable in a moment of its own, and leads to it in the next.
        super::until("a new address", || {
            let socket = std::net::UdpSocket::bind((address, 0)).ok()?;
            socket.connect((address, 9)).ok()
        });
    }

    /// Everything that was sent to syslog so far.
    pub fn syslog(&self) -> String {
        self.syslog.lock().expect("log").clone()
    }

    /// A file of an unpacked Debian package.
    pub fn peer(&self, package: &str, file: &str) -> PathBuf {
        let path = dir().join("peers").join(package).join(file);
        assert!(
            path.exists(),
            "{package} is not there: run tools/peers, which fetches it into {:?}",
            peers_dir()
        );
        if !self.peers_ready.swap(true, Ordering::Relaxed) {
            find_libraries_of_peers(self);
        }
        path
    }

    /// Changes the environment in which daemons are started; `None` removes a variable.
    pub fn set_env(&self, name: &str, value: Option<&str>) {
        let entry = (name.to_owned(), value.map(str::to_owned));
        self.environment.lock().expect("environment").push(entry);
    }

    pub fn environment(&self) -> Vec<(String, Option<String>)> {
        self.environment.lock().expect("environment").clone()
    }

    /// A client program's command with a bounded life and the C locale.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "20"]).arg(program.as_ref()).env("LC_ALL", "C").current_dir(DIR);
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.syslog_socket.shutdown(std::net::Shutdown::Both);
        // Servers outlive their daemon on purpose. Whoever lives in this namespace was started by this test.
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|s| s.parse::<i32>().ok()) else {
                continue;
            };
            let ours = fs::read_link(entry.path().join("ns/net")).is_ok_and(|n| n == self.namespace);
            if ours && pid != std::process::id() as i32 {
                // SAFETY: plain system call.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
}

/// The command line of a DHCP server at that interface, which has one address to give, for `lease`. It forgets everything with
/// the test's /run.
pub fn dhcp_server(interface: &str, address: &str, lease: &str) -> String {
    format!(
        "dnsmasq --no-daemon --port=0 --conf-file=/dev/null --user=root --interface={interface} --bind-interfaces \
         --dhcp-authoritative --dhcp-range={address},{address},255.255.255.0,{lease} \
         --dhcp-leasefile=/run/test/leases --pid-file=/run/test/dnsmasq.pid"
    )
}

/// Runs ip(8) in the test's network.
pub fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status().expect("ip of iproute2");
    assert!(status.success(), "ip {line}: {status}");
}

fn dir() -> &'static Path {
    Path::new(DIR)
}

/// Where tools/peers unpacks the other programs.
pub fn peers_dir() -> PathBuf {
    match std::env::var_os("USHERD_PEERS") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"),
    }
}

/// Where the libraries of all of them are, for LD_LIBRARY_PATH.
pub fn peer_libraries() -> std::ffi::OsString {
    let mut all = Vec::new();
    for package in fs::read_dir(peers_dir()).expect("run tools/peers").flatten() {
        for place in ["usr/lib", "lib"] {
            let Ok(dirs) = fs::read_dir(package.path().join(place)) else { continue };
            all.extend(dirs.flatten().map(|dir| dir.path()).filter(|dir| dir.is_dir()));
        }
    }
    std::env::join_paths(all).expect("no colon in a path")
}

/// A path that names an open file, even after its own path was covered by a mount.
fn by_fd(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/thread-self/fd/{}", file.as_raw_fd()).into()
}

fn check(rc: i32, what: &str) {
    if rc != 0 {
        panic!("{what}: {}", std::io::Error::last_os_error());
    }
}

fn mount(source: &str, target: &str, kind: Option<&str>, flags: libc::c_ulong, data: &str) {
    let c = |s: &str| CString::new(s).expect("no NUL");
    let (s, t, k, d) = (c(source), c(target), c(kind.unwrap_or("none")), c(data));
    // SAFETY: all four are NUL-terminated strings that live until the call returns.
    let rc = unsafe { libc::mount(s.as_ptr(), t.as_ptr(), k.as_ptr(), flags, d.as_ptr().cast()) };
    check(rc, &format!("mount {source} on {target}"));
}

fn bind(from: &Path, to: &Path) {
    let text = |p: &Path| p.to_str().expect("a printable path").to_owned();
    mount(&text(from), &text(to), None, libc::MS_BIND | libc::MS_REC, "");
}

fn loopback_up() {
    // SAFETY: an ifreq of zeros is valid; the name fits; the socket is closed again.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(fd, libc::SIOCSIFFLAGS, &request), "bring lo up");
        libc::close(fd);
    }
}

/// /etc becomes a tmpfs of links to the host's files; the ones that matter are replaced by fixed texts, so that a
/// test means the same on every machine.
fn private_etc() {
    let (host, new) = (dir().join("etc.host"), dir().join("etc"));
    fs::create_dir(&host).and_then(|()| fs::create_dir(&new)).expect("mount points");
    bind(Path::new("/etc"), &host);
    let new_text = new.to_str().expect("a printable path");
    mount("tmpfs", new_text, Some("tmpfs"), 0, "mode=755");
    for entry in fs::read_dir(&host).expect("/etc").flatten() {
        let name = entry.file_name();
        symlink(host.join(&name), new.join(&name)).expect("link in /etc");
    }
    let files: [(&str, u32, &str); 14] = [
        ("services", 0o644, include_str!("../data/services")),
        ("passwd", 0o644, include_str!("../data/passwd")),
        ("group", 0o644, include_str!("../data/group")),
        ("shadow", 0o600, "root:*:19000::::::\nalice:*:19000::::::\nftp:*:19000::::::\n"),
        ("protocols", 0o644, "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6 41 IPv6\n"),
        (
            "hosts",
            0o644,
            "127.0.0.1 localhost\n::1 localhost6\n127.0.0.2 two.test two\n127.0.0.3 three.test\n",
        ),
        (
            "nsswitch.conf",
            0o644,
            "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\nrpc: files\n",
        ),
        ("resolv.conf", 0o644, ""),
        ("hosts.allow", 0o644, ""),
        ("hosts.deny", 0o644, ""),
        ("xinetd.conf", 0o644, ""),
        ("inetd.conf", 0o644, ""),
        ("rpc", 0o644, ""),
        ("networks", 0o644, ""),
    ];
    for (name, mode, text) in files {
        let path = new.join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).expect("file in /etc");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode in /etc");
    }
    let localtime = new.join("localtime");
    let _ = fs::remove_file(&localtime);
    fs::write(&localtime, zone_file("UTC", 0, "UTC0")).expect("file in /etc");
    for name in ["xinetd.d", "inetd.d"] {
        let _ = fs::remove_file(new.join(name));
        fs::create_dir(new.join(name)).expect("directory in /etc");
    }
    mount(new_text, "/etc", None, libc::MS_MOVE, "");
}

/// A time zone file that says the same of all times: in its second part, which old readers skip, and in its rule.
pub fn zone_file(name: &str, east: i32, rule: &str) -> Vec<u8> {
    let mut part = b"TZif2".to_vec();
    part.extend([0; 15]);
    for count in [0, 0, 0, 0, 1, name.len() as u32 + 1] {
        part.extend(count.to_be_bytes());
    }
    part.extend(east.to_be_bytes());
    part.extend([0, 0]);
    part.extend(name.as_bytes());
    part.push(0);
    let mut all = part.repeat(2);
    all.extend(format!("\n{rule}\n").bytes());
    all
}

/// /dev gets a private log socket and private terminals.
fn private_dev() {
    let new = dir().join("dev");
    let new_text = new.to_str().expect("a printable path");
    fs::create_dir(&new).expect("mount point");
    mount("tmpfs", new_text, Some("tmpfs"), 0, "mode=755");
    for node in ["null", "zero", "full", "random", "urandom", "tty"] {
        File::create(new.join(node)).expect("mount point of a device");
        bind(&Path::new("/dev").join(node), &new.join(node));
    }
    // Machines without it have tests fail that need it, and no others. Containers often lack no more than its node.
    let (tun, node) = (Path::new("/dev/net/tun"), new.join("net/tun"));
    fs::create_dir(new.join("net")).expect("directory in /dev");
    if tun.exists() {
        File::create(&node).expect("mount point of a device");
        bind(tun, &node);
    } else {
        let name = CString::new(node.as_os_str().as_bytes()).expect("a path");
        // SAFETY: the name lives until the call returns.
        unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(10, 200)) };
    }
    for name in ["pts", "shm"] {
        fs::create_dir(new.join(name)).expect("directory in /dev");
    }
    let pts = new.join("pts");
    let pts = pts.to_str().expect("a printable path");
    mount("devpts", pts, Some("devpts"), 0, "newinstance,ptmxmode=0666,mode=620,gid=5");
    symlink("pts/ptmx", new.join("ptmx")).expect("link in /dev");
    for (name, to) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{to}"), new.join(name)).expect("link in /dev");
    }
    mount(new_text, "/dev", None, libc::MS_MOVE, "");
}

/// The loader's cache is the one way to its libraries that every program keeps: an environment variable is
/// dropped by daemons that launder it, and ignored where users change.
fn find_libraries_of_peers(net: &Net) {
    let mut conf = String::new();
    for package in fs::read_dir(net.dir().join("peers")).expect("peers").flatten() {
        for lib in ["lib", "usr/lib"] {
            for arch in fs::read_dir(package.path().join(lib)).into_iter().flatten().flatten() {
                if arch.file_name().to_string_lossy().contains("-linux-gnu") {
                    conf.push_str(&format!("{}\n", arch.path().display()));
                }
            }
        }
    }
    // The host's own come first, so that a peer's library only fills a gap.
    let host = "include /run/test/etc.host/ld.so.conf.d/*.conf\n";
    net.write("/etc/ld.so.conf", format!("{host}{conf}"));
    let _ = fs::remove_file("/etc/ld.so.cache");
    let ldconfig = ["/sbin/ldconfig", "/usr/sbin/ldconfig"].into_iter().find(|p| Path::new(p).exists());
    let status = Command::new(ldconfig.expect("ldconfig")).arg("-X").status().expect("run ldconfig");
    assert!(status.success(), "ldconfig: {status}");
}

/// All of a stream, until end of file, a reset or the time-out set on it.
pub fn drain(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut part) {
        all.extend_from_slice(&part[..n]);
    }
    all
}

/// Waits a moment for something that should not happen; the one place where time itself is the answer.
pub const A_WHILE: Duration = Duration::from_millis(300);
