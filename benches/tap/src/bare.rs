//! The bare stack: echo as smoltcp's own example `examples/server.rs` would do it.
//!
//! The same walk as there, on the same parts of smoltcp: `TunTapInterface` for the device, then for ever `poll`, each
//! socket in turn, and `phy::wait` for as long as `poll_delay` says. Only what the example wraps its device in (a
//! tracer, a file of frames, faults) is left out, and its sockets all do one thing: echo.

use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

/// Echo at a port of an address, for as many clients at a time as there are sockets, each with two buffers of that size.
pub fn serve(name: &str, address: IpCidr, port: u16, count: usize, bytes: usize) {
    let mut device = TunTapInterface::new(name, Medium::Ethernet).expect("a TAP device");
    let fd = device.as_raw_fd();
    let mut config = Config::new(EthernetAddress([0x02, 0, 0, 0, 0, 1]).into());
    config.random_seed =
        u64::from(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").subsec_nanos());
    let mut interface = Interface::new(config, &mut device, Instant::now());
    interface.update_ip_addrs(|all| all.push(address).expect("room"));

    let mut sockets = SocketSet::new(vec![]);
    let socket =
        || tcp::Socket::new(tcp::SocketBuffer::new(vec![0; bytes]), tcp::SocketBuffer::new(vec![0; bytes]));
    let handles: Vec<_> = (0..count).map(|_| sockets.add(socket())).collect();
    // What the example does with a vector for each piece; here it is asked of the allocator once.
    let mut data = vec![0; bytes];
    loop {
        let now = Instant::now();
        interface.poll(now, &mut device, &mut sockets);
        for &handle in &handles {
            let socket = sockets.get_mut::<tcp::Socket>(handle);
            if !socket.is_open() {
                socket.listen(port).expect("a closed socket");
                // As usherd has it; the example leaves Nagle's algorithm on, which no figure here would gain by.
                socket.set_nagle_enabled(false);
            }
            if socket.may_recv() {
                let room = socket.send_capacity() - socket.send_queue();
                let n = socket.recv_slice(&mut data[..room]).expect("an open socket");
                socket.send_slice(&data[..n]).expect("an open socket");
            } else if socket.may_send() {
                socket.close();
            }
        }
        wait(fd, interface.poll_delay(now, &sockets)).expect("select");
    }
}
