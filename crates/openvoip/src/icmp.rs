//! What the network says of datagrams that found nobody at home.
//!
//! A host answers a datagram to a closed port with an ICMP port-unreachable. On Linux a socket can ask for
//! these errors one by one, each with the address that the datagram went to and its first bytes
//! (`IP_RECVERR`, ip(7); `IPV6_RECVERR`, ipv6(7)). Elsewhere they are not read, and a closed port looks
//! like a silent one.
//!
//! Only port-unreachable is taken. It comes from the host itself; that a network or host cannot be reached
//! may be over in a moment (RFC 1122, section 3.2.2.1).

use std::net::SocketAddr;

use mio::net::UdpSocket;

pub(crate) use system::{listen, read};

/// One error that a socket was told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    /// Where nobody listens, and how many bytes of what was sent there were put into the buffer; absent if
    /// the error says something else.
    pub(crate) unreachable: Option<(SocketAddr, usize)>,
}

/// Sends a datagram. An error of an earlier one, of which the socket tells at the next opportunity, is none
/// of this one, which was not sent then: it is tried once more.
pub(crate) fn send(socket: &UdpSocket, bytes: &[u8], remote: SocketAddr) {
    if socket.send_to(bytes, remote).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused) {
        let _ = socket.send_to(bytes, remote);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io::IoSliceMut;
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;

    use mio::net::UdpSocket;
    use nix::libc;
    use nix::sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
        sockopt::{Ipv4RecvErr, Ipv6RecvErr},
    };

    use super::Report;

    /// "Port unreachable" among the codes of "destination unreachable": type 3 of ICMP (RFC 792), type 1 of
    /// ICMPv6 (RFC 4443, section 3.1).
    const ICMP_PORT: (u8, u8, u8) = (libc::SO_EE_ORIGIN_ICMP, 3, 3);
    const ICMPV6_PORT: (u8, u8, u8) = (libc::SO_EE_ORIGIN_ICMP6, 1, 4);

    /// Asks for the errors of a socket.
    pub(crate) fn listen(socket: &UdpSocket) {
        // An IPv6 socket sends to IPv4 addresses too; what a socket does not know it refuses.
        let _ = setsockopt(socket, Ipv4RecvErr, &true);
        let _ = setsockopt(socket, Ipv6RecvErr, &true);
    }

    /// The next error, with the beginning of what was sent in `buffer`; `None` if there is no more.
    pub(crate) fn read(socket: &UdpSocket, buffer: &mut [u8]) -> Option<Report> {
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let mut pieces = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(&mut control), flags).ok()?;
        let refused = message.cmsgs().ok()?.any(|c| {
            let (ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _)) = c
            else {
                return false;
            };
            [ICMP_PORT, ICMPV6_PORT].contains(&(error.ee_origin, error.ee_type, error.ee_code))
        });
        let remote = message.address.and_then(address).filter(|_| refused);
        Some(Report { unreachable: remote.map(|remote| (remote, message.bytes)) })
    }

    fn address(address: SockaddrStorage) -> Option<SocketAddr> {
        let v4 = address.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
        v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into()))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use mio::net::UdpSocket;

    use super::Report;

    pub(crate) fn listen(_socket: &UdpSocket) {}

    pub(crate) fn read(_socket: &UdpSocket, _buffer: &mut [u8]) -> Option<Report> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn socket(ip: &str) -> UdpSocket {
        UdpSocket::bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap()
    }

    #[test]
    fn a_closed_port_is_named_with_what_was_sent_there_and_an_open_one_still_gets_its_datagram() {
        for ip in ["127.0.0.1", "::1"] {
            let (own, open) = (socket(ip), socket(ip));
            listen(&own);
            let closed = socket(ip).local_addr().unwrap();
            let mut buffer = [0; 1_500];
            assert_eq!(read(&own, &mut buffer), None);
            send(&own, b"is anybody there?", closed);
            // The error of the one before must not cost this one its way.
            send(&own, b"and here?", open.local_addr().unwrap());
            assert_eq!(read(&own, &mut buffer), Some(Report { unreachable: Some((closed, 17)) }));
            assert_eq!(&buffer[..17], b"is anybody there?");
            assert_eq!(read(&own, &mut buffer), None);
            assert_eq!(open.recv_from(&mut buffer).unwrap(), (9, own.local_addr().unwrap()));
        }
    }
}
