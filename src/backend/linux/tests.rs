extern crate std;

use std::boxed::Box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;
use std::{thread, vec};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::sockopt;

use super::*;
use crate::capacity::{SCRATCH_BYTES, SPILLS};
use crate::resolver::Network as _;
use crate::service::{Answer, Bind, Family, Flags};
use rustix::net::getsockname;

/// Spill buffers are counted for the process: one test at a time.
static SPILLS_TURN: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    SPILLS_TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn linux() -> Linux {
    let spawner = Box::leak(Box::new(Spawner::new()));
    let uid = rustix::process::getuid().as_raw();
    spawner.set_heritage(spawn::Heritage { umask: 0o022, nice: 0, files: (1024, 1024), uid });
    Linux::new(
        Box::leak(Box::new(Spills::new())),
        Box::leak(Box::new(Cache::new())),
        spawner,
        Box::leak(Box::new(log::Log::new())),
        0,
    )
    .unwrap()
}

fn socket(ours: impl IntoRawFd) -> Socket {
    Socket::new(sys::adopt(ours.into_raw_fd()).unwrap())
}

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks again and again until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_micros(50));
    }
}

/// A connection: the other end, whose owner does not wait for ever either, and ours.
fn pair() -> (UnixStream, Socket) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_write_timeout(Some(PATIENCE)).unwrap();
    ours.set_nonblocking(true).unwrap();
    (theirs, socket(ours))
}

fn tcp_pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_write_timeout(Some(PATIENCE)).unwrap();
    (theirs, socket(listener.accept().unwrap().0))
}

/// What epoll reports, waiting at most that long.
fn reported(linux: &Linux, ms: i64) -> Vec<Source> {
    let none = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
    let mut events = [none; 8];
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: (ms * 1_000_000) as _ };
    let count = epoll::wait(&linux.epoll, &mut events, Some(&timeout)).unwrap();
    events[..count].iter().filter_map(|event| Source::from_data(event.data)).collect()
}

/// Waits until the other end has said all: that it ends comes after its bytes.
fn all_said(stream: &Socket) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as _, tv_nsec: 0 };
    let mut end = [PollFd::new(&stream.fd, PollFlags::RDHUP)];
    assert_eq!(poll(&mut end, Some(&patience)), Ok(1));
}

fn decided(linux: &mut Linux, stream: &Socket) -> Result<(), Errno> {
    until("a decision", || match linux.connected(stream) {
        Err(Errno::AGAIN) => None,
        other => Some(other),
    })
}

const ID: Handle = Handle { index: 3, generation: 7 };

fn flows(
    mut theirs: impl Write + Send,
    mut near: Socket,
    mut far: Socket,
    mut there: impl Read + Send + 'static,
) {
    let mut linux = linux();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = sent.clone();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        let mut buf = vec![0; 5000];
        // Slow at first: everything between fills up.
        thread::sleep(Duration::from_millis(50));
        loop {
            match there.read(&mut buf).unwrap() {
                0 => return got,
                n => got.extend_from_slice(&buf[..n]),
            }
        }
    });
    let mut scratch = vec![0; SCRATCH_BYTES];
    thread::scope(|scope| {
        scope.spawn(move || {
            theirs.write_all(&sent).unwrap();
            drop(theirs);
        });
        until("the end", || {
            let done = linux.relay(&mut near, &mut far, &mut scratch).unwrap();
            (done == Forward::End).then_some(())
        });
        linux.finish(&far);
    });
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn relay_carries_everything_to_a_slow_reader() {
    let _alone = alone();
    let ((theirs, near), (there, far)) = (pair(), pair());
    flows(theirs, near, far, there);
    let ((theirs, near), (there, far)) = (tcp_pair(), tcp_pair());
    flows(theirs, near, far, there);
}

/// The same while no spill buffer is free: everything unsent stays in the kernel.
#[test]
fn relay_carries_everything_without_a_spill_buffer() {
    let _alone = alone();
    let mut holder = linux();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut stuck = Vec::new();
    // Each blocks with something in its buffer, as long as there are any.
    for _ in 0..2 * SPILLS {
        let ((mut theirs, mut near), (there, mut far)) = (pair(), pair());
        theirs.set_nonblocking(true).unwrap();
        let mut sent = 0;
        until("a full output", || {
            while let Ok(n) = theirs.write(&[b'x'; 9000]) {
                sent += n;
            }
            (holder.relay(&mut near, &mut far, &mut scratch) == Ok(Forward::Blocked)).then_some(())
        });
        stuck.push((theirs, near, there, far, sent));
    }
    let ((theirs, near), (there, far)) = (pair(), pair());
    flows(theirs, near, far, there);
    let ((theirs, near), (there, far)) = (tcp_pair(), tcp_pair());
    flows(theirs, near, far, there);
    // And those that were stuck go on where they were.
    for (theirs, mut near, mut there, mut far, sent) in stuck {
        drop(theirs);
        there.set_nonblocking(true).unwrap();
        let mut got = 0;
        let mut buf = [0; 4096];
        until("the end", || {
            while let Ok(n @ 1..) = there.read(&mut buf) {
                got += n;
            }
            let done = holder.relay(&mut near, &mut far, &mut scratch).unwrap();
            (done == Forward::End).then_some(())
        });
        holder.finish(&far);
        while let Ok(n @ 1..) = there.read(&mut buf) {
            got += n;
        }
        assert_eq!(got, sent);
    }
}

#[test]
fn a_half_close_goes_through_and_the_answer_comes_back() {
    let _alone = alone();
    let mut linux = linux();
    let ((mut theirs, mut near), (mut there, mut far)) = (tcp_pair(), tcp_pair());
    let mut scratch = [0; 64];
    assert_eq!(linux.relay(&mut near, &mut far, &mut scratch), Ok(Forward::Empty));
    theirs.write_all(b"question").unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    all_said(&near);
    assert_eq!(linux.relay(&mut near, &mut far, &mut scratch), Ok(Forward::Moved(8)));
    assert_eq!(linux.relay(&mut near, &mut far, &mut scratch), Ok(Forward::End));
    linux.finish(&far);
    let mut text = Vec::new();
    there.read_to_end(&mut text).unwrap();
    assert_eq!(text, b"question");
    there.write_all(b"answer").unwrap();
    drop(there);
    all_said(&far);
    assert_eq!(linux.relay(&mut far, &mut near, &mut scratch), Ok(Forward::Moved(6)));
    assert_eq!(linux.relay(&mut far, &mut near, &mut scratch), Ok(Forward::End));
    linux.finish(&near);
    text.clear();
    theirs.read_to_end(&mut text).unwrap();
    assert_eq!(text, b"answer");
    // Nobody reads there any more.
    drop(theirs);
    linux.close(near);
}

#[test]
fn relay_reports_an_output_that_is_gone() {
    let _alone = alone();
    let mut linux = linux();
    let ((mut theirs, mut near), (there, mut far)) = (pair(), pair());
    drop(there);
    theirs.write_all(b"x").unwrap();
    assert_eq!(linux.relay(&mut near, &mut far, &mut [0; 64]), Err(Errno(32)));
}

#[test]
fn a_connection_comes_to_be_or_is_refused() {
    let mut linux = linux();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let stream = linux.connect(None, to).unwrap();
        linux.open(StreamId::Far(ID), &stream, Step::Write).unwrap();
        assert_eq!(reported(&linux, 900), [Source::Stream(StreamId::Far(ID))]);
        assert_eq!(linux.connected(&stream), Ok(()));
        assert!(sockopt::tcp_nodelay(&stream.fd).unwrap());
        let (mut theirs, peer) = listener.accept().unwrap();
        assert_eq!(linux.local(&stream), Some((peer.ip(), peer.port())));
        linux.tell(&stream, b"hello").unwrap();
        linux.close(stream);
        let mut text = Vec::new();
        theirs.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"hello");

        drop(listener);
        match linux.connect(None, to) {
            Ok(stream) => {
                linux.open(StreamId::Far(ID), &stream, Step::Write).unwrap();
                assert_eq!(reported(&linux, 900), [Source::Stream(StreamId::Far(ID))]);
                assert_eq!(decided(&mut linux, &stream), Err(Errno::CONNREFUSED));
                linux.close(stream);
            }
            Err(errno) => assert_eq!(errno, Errno::CONNREFUSED),
        }
        assert_eq!(reported(&linux, 0), []);
    }
}

#[test]
fn a_connection_comes_from_where_it_is_told() {
    let mut linux = linux();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let stream = linux.connect(Some(from), to).unwrap();
    assert_eq!(decided(&mut linux, &stream), Ok(()));
    assert_eq!(listener.accept().unwrap().1.ip(), from);
    // Not one of ours.
    let foreign = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(linux.connect(Some(foreign), to).err(), Some(Errno::ADDRNOTAVAIL));
    // A family that does not fit.
    assert!(linux.connect(Some(IpAddr::V6(Ipv6Addr::LOCALHOST)), to).is_err());
}

/// A listener whose queue is full answers nobody: undecided, and closed without a word.
#[test]
fn a_connection_may_stay_undecided() {
    let mut linux = linux();
    let fd =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&fd, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).unwrap();
    rustix::net::listen(&fd, 0).unwrap();
    let to = SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
    let streams: Vec<Socket> = (0..5).map(|_| linux.connect(None, to).unwrap()).collect();
    assert_eq!(decided(&mut linux, &streams[0]), Ok(()));
    let last = streams.last().unwrap();
    linux.open(StreamId::Far(ID), last, Step::Write).unwrap();
    // It must not happen: on this machine an answer takes less than a millisecond, and who has none asks after a second.
    assert_eq!(reported(&linux, 50), []);
    assert_eq!(linux.connected(last), Err(Errno::AGAIN));
    for stream in streams {
        linux.close(stream);
    }
}

#[test]
fn a_stream_without_interest_reports_only_its_end() {
    let mut linux = linux();
    let (mut theirs, stream) = pair();
    linux.open(StreamId::Near(ID), &stream, Step::Close).unwrap();
    theirs.write_all(b"x").unwrap();
    assert_eq!(reported(&linux, 0), []);
    linux.wait_for(StreamId::Near(ID), &stream, Step::Read);
    assert_eq!(reported(&linux, 0), [Source::Stream(StreamId::Near(ID))]);
    linux.wait_for(StreamId::Near(ID), &stream, Step::Close);
    assert_eq!(reported(&linux, 0), []);
    drop(theirs);
    assert_eq!(reported(&linux, 900), [Source::Stream(StreamId::Near(ID))]);
    linux.close(stream);
}

#[test]
fn what_is_handed_over_is_as_programs_expect_it() {
    let mut linux = linux();
    let (mut theirs, stream) = pair();
    linux.open(StreamId::Near(ID), &stream, Step::Read).unwrap();
    linux.hand_over(&stream).unwrap();
    assert!(!fcntl_getfl(&stream.fd).unwrap().contains(OFlags::NONBLOCK));
    theirs.write_all(b"x").unwrap();
    assert_eq!(reported(&linux, 0), []);
    assert_eq!(linux.local(&stream), None);

    // An IPv4 client of an IPv6 listener.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let theirs = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    let stream = socket(ours);
    assert_eq!(linux.local(&stream), Some((Ipv4Addr::LOCALHOST.into(), port)));
    linux.hand_over(&stream).unwrap();
    assert_eq!(stream.local_for_server(), Some((Ipv4Addr::LOCALHOST, port).into()));
    assert!(SocketAddr::try_from(getsockname(&stream.fd).unwrap()).unwrap().is_ipv4());
    assert!(!fcntl_getfl(&stream.fd).unwrap().contains(OFlags::NONBLOCK));
    linux.keep_alive(&stream);
    assert!(sockopt::socket_keepalive(&stream.fd).unwrap());
    // The daemon itself never lingers.
    linux.linger(&stream, 100);
    assert_eq!(sockopt::socket_linger(&stream.fd).unwrap(), None);
    drop(theirs);
    // And an IPv6 client stays one.
    let _theirs = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    let stream = socket(listener.accept().unwrap().0);
    linux.hand_over(&stream).unwrap();
    assert_eq!(stream.local_for_server(), Some((Ipv6Addr::LOCALHOST, port).into()));
    assert!(SocketAddr::try_from(getsockname(&stream.fd).unwrap()).unwrap().is_ipv6());
}

#[test]
fn connections_of_a_redirected_service_send_at_once() {
    use crate::service::{Host, Target};
    let mut linux = linux();
    let table = Box::new(Table::new());
    let here = Ipv4Addr::LOCALHOST.into();
    let mut service = Service {
        family: Family::V4,
        bind: Bind::Address(here),
        answer: Answer::Redirect(Target { host: Host::Address(here), port: 1 }),
        ..Service::default()
    };
    let take = |linux: &mut Linux, listener: &Listener| {
        let at = SocketAddr::try_from(getsockname(&listener.fd).unwrap()).unwrap();
        let _theirs = TcpStream::connect(at).unwrap();
        sockopt::tcp_nodelay(&linux.accept(listener).unwrap().0.fd).unwrap()
    };
    let listener = linux.listen(&table, &service).unwrap();
    assert!(take(&mut linux, &listener));
    // A kept socket learns it too.
    service.answer = Answer::Program;
    let mut listener = linux.listen(&table, &service).unwrap();
    assert!(!take(&mut linux, &listener));
    service.answer = Answer::Redirect(Target { host: Host::Address(here), port: 1 });
    linux.refit(&table, &service, &mut listener, false).unwrap();
    assert!(take(&mut linux, &listener));
}

/// A command that goes with a client has nothing of him, and what a server has it has too.
#[test]
fn a_command_is_run_beside_a_client() {
    let mut linux = linux();
    let table = Box::new(Table::new());
    let service = Service {
        family: Family::V4,
        bind: Bind::Address(Ipv4Addr::LOCALHOST.into()),
        flags: Flags::default().with(Flags::LISTEN_FDS),
        ..Service::default()
    };
    let listener = linux.listen(&table, &service).unwrap();
    let file = std::env::temp_dir().join(std::format!("usherd-command-{}", std::process::id()));
    let mut command = std::format!(
        "{{ readlink /proc/self/fd/0 /proc/self/fd/1; echo $REMOTE_HOST ${{LISTEN_FDS-none}}; }} >{0}.tmp; readlink /proc/self/fd/2 >>{0}.tmp; mv {0}.tmp {0}",
        file.display()
    )
    .into_bytes();
    command.push(0);
    let pid = linux
        .spawn(Spawn {
            table: &table,
            service: &service,
            listener: Some(&listener),
            given: Given::Nothing,
            peer: Peer::ip(Ipv4Addr::new(192, 0, 2, 1).into(), 9),
            effects: None,
            command: Some(&command),
        })
        .unwrap();
    // The engine's memory is another's by now.
    command.fill(b'!');
    let pid = rustix::process::Pid::from_raw(pid as i32);
    rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // The shell's own redirection is the second one.
    assert_eq!(lines[0], "/dev/null");
    assert_eq!(lines[2..], ["192.0.2.1 none", "/dev/null"]);
}

#[test]
fn a_question_is_asked_and_answered() {
    let mut linux = linux();
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    let question = linux.resolving().1.ask(ID, address, b"who?").unwrap();
    let mut buf = [0; 16];
    assert_eq!(linux.resolving().1.answer(&question, &mut buf), Err(Errno::AGAIN));
    let (n, from) = server.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"who?");
    // Somebody else's answer does not come in.
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"me", from).unwrap();
    assert_eq!(reported(&linux, 20), []);
    server.send_to(b"he", from).unwrap();
    assert_eq!(reported(&linux, 900), [Source::Question(ID)]);
    assert_eq!(linux.resolving().1.answer(&question, &mut buf), Ok(2));
    assert_eq!(&buf[..2], b"he");
    // Somebody else has the socket as well: what is dropped is not reported all the same.
    let held = rustix::io::fcntl_dupfd_cloexec(&question.socket, 3).unwrap();
    drop(question);
    server.send_to(b"late", from).unwrap();
    assert_eq!(reported(&linux, 20), []);
    drop(held);
    // Nobody there: told by the way of an answer.
    drop(server);
    let question = linux.resolving().1.ask(ID, address, b"who?").unwrap();
    assert_eq!(reported(&linux, 900), [Source::Question(ID)]);
    assert_eq!(linux.resolving().1.answer(&question, &mut buf), Err(Errno::CONNREFUSED));
    let numbers: Vec<u32> = (0..5).map(|_| linux.resolving().1.random()).collect();
    assert!(numbers.iter().any(|n| *n != numbers[0]));
}

#[test]
fn sources_are_packed_and_unpacked() {
    let id = ServiceId { index: 3, generation: 7 };
    for source in [
        Source::Listener(id),
        Source::Stream(StreamId::Session(ID)),
        Source::Stream(StreamId::Near(ID)),
        Source::Stream(StreamId::Far(ID)),
        Source::Stream(StreamId::Ident(ID)),
        Source::Question(ID),
        Source::Stderr(id),
        Source::Retired(5),
        Source::Signals,
    ] {
        assert_eq!(Source::from_data(source.data()), Some(source));
    }
}
