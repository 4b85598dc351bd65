//! On sockets of the system: memory, and that the others are served.

use super::{LIMITS, page, site};
use crate::codec::Limits;
use crate::connection::Http;
use crate::site::Site;
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate::{Address, EventLoop, Protocol, Result, Transport, Wrap};
use tidegate_framing::Framed;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A protocol that shows its transport to the test.
struct Shown {
    inner: Framed<Http>,
    transports: Rc<RefCell<Vec<Transport>>>,
}

impl Wrap for Shown {
    type Inner = Framed<Http>;

    fn wrapped(&mut self) -> &mut Framed<Http> {
        &mut self.inner
    }

    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.transports.borrow_mut().push(transport.clone());
        self.inner.connection_made(transport)
    }
}

/// A server on a loop.
struct Served {
    event_loop: EventLoop,
    address: Address,
    transports: Rc<RefCell<Vec<Transport>>>,
    /// The largest write buffer at the end of a tick.
    most: usize,
}

impl Served {
    fn new(site: Rc<Site>) -> Self {
        let event_loop = EventLoop::new().unwrap();
        let transports = Rc::default();
        let shown = Rc::clone(&transports);
        let make = move || Shown {
            inner: crate::connection(&site),
            transports: Rc::clone(&shown),
        };
        let server = event_loop.handle().create_server("127.0.0.1:0", make);
        let address = server.unwrap().local_addrs()[0].clone();
        Self {
            event_loop,
            address,
            transports,
            most: 0,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address.to_string()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// Runs the loop until `step` returns something.
    fn until<T>(&mut self, what: &str, mut step: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let turn = Some(Duration::from_millis(1));
            self.event_loop.run_once(turn).unwrap();
            for transport in self.transports.borrow().iter() {
                self.most = self.most.max(transport.write_buffer_size());
            }
            if let Some(value) = step() {
                return value;
            }
            assert!(Instant::now() < end, "{what}: buffer {}", self.most);
        }
    }

    /// Reads a number of bytes.
    fn read(&mut self, stream: &mut TcpStream, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("to read", || {
            let mut piece = [0; 16 * 1024];
            let most = piece.len().min(len - bytes.len());
            match stream.read(&mut piece[..most]) {
                Ok(0) => panic!("it ended after {} bytes", bytes.len()),
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error} after {} bytes", bytes.len()),
            }
            (bytes.len() == len).then_some(())
        });
        bytes
    }

    /// Reads up to the end of the stream.
    fn read_to_end(&mut self, stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        self.until("the end", || match stream.read_to_end(&mut bytes) {
            Ok(_) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        String::from_utf8(bytes).unwrap()
    }
}

/// Sends again and again until the kernel takes no more for a while. Returns what was taken.
fn flood(served: &mut Served, stream: &mut TcpStream, what: &[u8]) -> io::Result<usize> {
    let (mut taken, mut idle) = (0, 0);
    served.until("to be stopped", || {
        match stream.write(&what[taken % what.len()..]) {
            Ok(sent) => (taken, idle) = (taken + sent, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => idle += 1,
            Err(error) => return Some(Err(error)),
        }
        assert!(taken < 256 << 20, "it is read from without end");
        (idle == 100).then_some(Ok(taken))
    })
}

/// The high-water mark, and the largest write.
const BOUND: usize = 64 * 1024 + 64 * 1024;

#[test]
fn a_client_that_sends_requests_and_reads_nothing_is_stopped() {
    let mut served = Served::new(site());
    let mut stream = served.connect();
    let taken = flood(&mut served, &mut stream, GET.repeat(4000).as_bytes()).unwrap();
    assert!(served.most > 0);
    assert!(served.most <= BOUND, "{}", served.most);
    // And every request that was taken whole has its reply.
    let replies = page().repeat(taken / GET.len());
    let read = served.read(&mut stream, replies.len());
    assert!(read == replies.as_bytes());
    assert!(served.most <= BOUND, "{}", served.most);
}

#[test]
fn a_long_reply_waits_for_its_reader_and_the_next_request_for_the_reply() {
    const LEN: usize = 20_000_000;
    let mut served = Served::new(site());
    let mut stream = served.connect();
    let requests = GET.replace("/ ", &format!("/bytes/{LEN} ")) + GET;
    stream.write_all(requests.as_bytes()).unwrap();
    // The kernel's buffers are full, and others are served.
    for _ in 0..3 {
        let mut other = served.connect();
        other.write_all(GET.as_bytes()).unwrap();
        assert_eq!(served.read(&mut other, page().len()), page().as_bytes());
    }
    let head = super::reply("200 OK", &format!("Content-Length: {LEN}\r\n"), "");
    assert_eq!(served.read(&mut stream, head.len()), head.as_bytes());
    let body = served.read(&mut stream, LEN);
    assert!(body.iter().all(|&byte| byte == b'x'));
    assert_eq!(served.read(&mut stream, page().len()), page().as_bytes());
    assert!(served.most <= BOUND, "{}", served.most);
}

#[test]
fn an_echo_whose_client_does_not_read_stops_the_client() {
    let limits = Limits {
        body: 1 << 30,
        ..LIMITS
    };
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    let [of_length, in_chunks] = [
        "Content-Length: 1000000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3b9aca00\r\n",
    ];
    for framing in [of_length, in_chunks] {
        let mut served = Served::new(Rc::new(Site::new(limits)));
        let mut stream = served.connect();
        stream
            .write_all(format!("{head}{framing}").as_bytes())
            .unwrap();
        flood(&mut served, &mut stream, &[b'y'; 100_000]).unwrap();
        // A read of the loop is up to 128 KiB, and it is one write.
        let bound = BOUND + 128 * 1024;
        assert!(served.most > 0);
        assert!(served.most <= bound, "{}", served.most);
    }
}

#[test]
fn an_error_ends_its_connection_and_the_others_are_served() {
    let mut served = Served::new(site());
    let mut good = served.connect();
    for bad in [
        "GET / HTTP/1.1\r\nbad head\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut stream = served.connect();
        // A client that has more to send gets the reply all the same.
        stream.write_all(bad.as_bytes()).unwrap();
        stream.write_all(&[b'z'; 50_000]).unwrap();
        let reply = served.read_to_end(&mut stream);
        assert_eq!(reply, super::refusal("400 Bad Request"));
        good.write_all(GET.as_bytes()).unwrap();
        assert_eq!(served.read(&mut good, page().len()), page().as_bytes());
    }
}

#[test]
fn a_client_that_ends_its_stream_gets_all_replies() {
    let mut served = Served::new(site());
    let mut stream = served.connect();
    let long = GET.replace("/ ", "/bytes/3000000 ");
    stream
        .write_all(format!("{GET}{long}{GET}").as_bytes())
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let replies = served.read_to_end(&mut stream);
    assert!(replies.starts_with(&page()) && replies.ends_with(&page()));
    let head = super::reply("200 OK", "Content-Length: 3000000\r\n", "");
    assert_eq!(replies.len(), 2 * page().len() + head.len() + 3_000_000);
}
