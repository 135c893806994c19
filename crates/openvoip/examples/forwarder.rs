//! A bare forwarder of datagrams: the floor under what a bridged call can cost.
//!
//! `forwarder LISTEN TO` reads one socket and sends what comes to one address, with the two calls
//! of the system that this takes and nothing else.

use std::net::UdpSocket;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, to] = &arguments[..] else {
        eprintln!("usage: forwarder LISTEN TO");
        std::process::exit(2);
    };
    let (incoming, outgoing) = (UdpSocket::bind(listen)?, UdpSocket::bind("127.0.0.1:0")?);
    outgoing.connect(to)?;
    let mut buffer = [0; 2_048];
    loop {
        let (len, _) = incoming.recv_from(&mut buffer)?;
        let _ = outgoing.send(&buffer[..len]);
    }
}
