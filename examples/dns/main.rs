//! A small authoritative name server, on UDP and TCP on one loop.
//!
//! Run, and ask it:
//!
//!     printf 'www.example. 60 A 192.0.2.1\nexample. 60 TXT hello world\n' >zone
//!     cargo run --example dns -- --listen 127.0.0.1:5353 --zone zone
//!     dig @127.0.0.1 -p 5353 www.example
//!     dig @127.0.0.1 -p 5353 +tcp example TXT
//!
//! A line of the zone file is a name, a time to live in seconds, a type (A, AAAA, CNAME or TXT) and a
//! value. The zone is the name that all of them end with; names outside of it are refused. There is no SOA
//! record, so resolvers do not keep that a name does not exist.
//!
//! A reply above the client's limit is cut, and says so; the client then asks over TCP (RFC 7766).

mod message;

use message::{BAD_VERSION, Data, NO_ERROR, NO_SUCH_NAME, Query, REFUSED, refusal};
use std::collections::BTreeMap;
use std::iter;
use std::net::IpAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    Address, BoxError, DatagramProtocol, DatagramTransport, EventLoop, ListenOptions, Result,
};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};
use tidegate_framing::{LengthPrefix, Prefix, framed};

/// The most bytes of a message over TCP: its length has 16 bits.
const MOST_TCP: usize = u16::MAX as usize;

/// The maximum number of aliases that lead to each other: a zone may have a circle of them.
const MOST_ALIASES: usize = 8;

/// The records of each name, which is in lower case and ends with a dot.
#[derive(Debug)]
struct Zone {
    records: BTreeMap<String, Vec<(u32, Data)>>,
    /// The name that all of them end with.
    apex: String,
}

impl Zone {
    fn parse(text: &str) -> Result<Self> {
        let mut records: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let wrong = |why: BoxError| format!("line {} of the zone: {why}", number + 1);
            let (name, record) = parse_record(line).map_err(wrong)?;
            records.entry(name).or_default().push(record);
        }
        let mut apex = records
            .keys()
            .next()
            .ok_or("the zone has no records")?
            .clone();
        while !records.keys().all(|name| is_within(name, &apex)) {
            apex = apex
                .split_once('.')
                .map_or_else(String::new, |(_, parent)| parent.to_owned());
        }
        Ok(Self { records, apex })
    }

    /// Returns the reply to a message, of at most `limit` bytes, or of what the client says for UDP.
    fn reply(&self, message: &[u8], limit: Option<usize>) -> Option<Vec<u8>> {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(code) => return Some(refusal(message, code?)),
        };
        let limit = limit.unwrap_or(query.udp_limit);
        let refuse = |code: u16| Some(query.reply(code, iter::empty(), limit));
        if query.is_of_later_edns() {
            return refuse(BAD_VERSION);
        }
        if !query.is_of_internet() || !is_within(&query.name, &self.apex) {
            return refuse(REFUSED.into());
        }
        let records = self.find(&query.name, query.kind);
        // A name below which there are others exists (RFC 8020).
        let exists = self.records.keys().any(|name| is_within(name, &query.name));
        if records.is_empty() && !exists {
            return refuse(NO_SUCH_NAME.into());
        }
        Some(query.reply(NO_ERROR.into(), records.into_iter(), limit))
    }

    /// Returns the records of a type, those of aliases before those that they lead to (RFC 1034, 4.3.2).
    fn find(&self, name: &str, kind: u16) -> Vec<(&str, u32, &Data)> {
        let mut found = Vec::new();
        let mut next = Some(name);
        for _ in 0..MOST_ALIASES {
            let Some((name, records)) = next.and_then(|name| self.records.get_key_value(name))
            else {
                break;
            };
            let asked = records.iter().filter(|(_, data)| data.is_asked(kind));
            found.extend(asked.map(|(ttl, data)| (name.as_str(), *ttl, data)));
            next = records.iter().find_map(|(_, data)| match data {
                Data::Alias(to) if !data.is_of(kind) => Some(to.as_str()),
                _ => None,
            });
        }
        found
    }
}

/// Whether a name is another, or below it.
fn is_within(name: &str, parent: &str) -> bool {
    let above = name.strip_suffix(parent);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.')) || parent == "."
}

fn parse_record(line: &str) -> Result<(String, (u32, Data))> {
    let mut rest = line;
    let mut next = || {
        let (word, behind) = rest.split_once(char::is_whitespace)?;
        rest = behind.trim_start();
        Some(word)
    };
    let (Some(name), Some(ttl), Some(kind)) = (next(), next(), next()) else {
        return Err("expected NAME TTL TYPE VALUE".into());
    };
    let data = match kind {
        "A" => Data::Address(IpAddr::V4(rest.parse()?)),
        "AAAA" => Data::Address(IpAddr::V6(rest.parse()?)),
        "CNAME" => Data::Alias(absolute(rest)?),
        "TXT" => Data::Text(rest.to_owned()),
        other => return Err(format!("there is no type {other}: A, AAAA, CNAME or TXT").into()),
    };
    Ok((absolute(name)?, (ttl.parse()?, data)))
}

fn absolute(name: &str) -> Result<String> {
    if !message::is_name(name) {
        return Err(format!("{name} is no name: labels have 1 to 63 bytes").into());
    }
    Ok(format!("{}.", name.trim_end_matches('.').to_lowercase()))
}

/// The part of the server on UDP.
struct OverUdp(Rc<Zone>);

impl DatagramProtocol for OverUdp {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        message: &[u8],
        from: &Address,
    ) -> Result {
        if let Some(reply) = self.0.reply(message, None) {
            transport.send_to(&reply, from)?;
        }
        Ok(())
    }
}

/// Listens on TCP at the address of the endpoint. A message follows its length (RFC 7766, 8).
fn serve_tcp(event_loop: &EventLoop, at: &Address, zone: Rc<Zone>) -> Result {
    let codec = || LengthPrefix::new(Prefix::Big(2)).max(MOST_TCP);
    let options = ListenOptions::new(at)
        .max_connections(1_000)
        .idle_timeout(Duration::from_secs(30));
    event_loop.handle().create_server(options, move || {
        let zone = zone.clone();
        framed(codec(), move |transport, message| {
            if let Some(reply) = zone.reply(message, Some(MOST_TCP)) {
                codec().write(transport, &reply)?;
            }
            Ok(())
        })
        .frame_timeout(Duration::from_secs(10))
    })?;
    Ok(())
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("zone", "FILE")])?;
    let file = args.required("zone")?;
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let zone = Rc::new(Zone::parse(&text)?);
    let mut event_loop = EventLoop::new()?;
    let at = args.listen("127.0.0.1:5353");
    let endpoint = event_loop
        .handle()
        .create_datagram_endpoint(at, OverUdp(zone.clone()))?;
    serve_tcp(&event_loop, endpoint.local_addr(), zone)?;
    print_addresses(std::slice::from_ref(endpoint.local_addr()))?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "www.Example. 60 A 192.0.2.1\nwww.example 60 AAAA ::1\n# a comment\n\
        alias.example 5 CNAME  www.example\na.below.example 1 A 192.0.2.9\nexample. 60 TXT hello world\n";

    /// A question with the id 0x1234.
    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
        message
    }

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let zone = Zone::parse(ZONE).unwrap();
        zone.reply(&question(name, kind), None).unwrap()
    }

    #[test]
    fn a_name_is_found_whatever_its_case_and_others_are_not() {
        for (name, kind, code, records) in [
            ("www.example", 1, 0, 1),
            ("WWW.EXAMPLE", 28, 0, 1),
            ("www.example", 255, 0, 2),
            ("alias.example", 1, 0, 2),
            ("alias.example", 5, 0, 1),
            ("below.example", 1, 0, 0),
            ("a.below.example", 1, 0, 1),
            ("www.example", 16, 0, 0),
            ("no.example", 1, 3, 0),
            ("example.org", 1, 5, 0),
            ("bexample", 1, 5, 0),
        ] {
            let reply = ask(name, kind);
            assert_eq!((reply[3], reply[7]), (code, records), "{name} {kind}");
            assert_eq!(&reply[..2], [0x12, 0x34]);
        }
        assert!(ask("www.example", 1).ends_with(&[0, 4, 192, 0, 2, 1]));
    }

    #[test]
    fn a_reply_above_the_limit_is_cut_and_says_so() {
        let lines = (0..200).map(|i| format!("many.example 1 A 192.0.2.{}\n", i % 250));
        let zone = Zone::parse(&lines.collect::<String>()).unwrap();
        let message = question("many.example", 1);
        let cut = zone.reply(&message, None).unwrap();
        assert!(cut.len() <= 512 && cut[2] & 0x02 != 0, "{}", cut.len());
        let whole = zone.reply(&message, Some(MOST_TCP)).unwrap();
        assert_eq!((whole[2] & 0x02, whole[6], whole[7]), (0, 0, 200));
    }

    #[test]
    fn aliases_in_a_circle_end_and_an_unknown_edns_is_told() {
        let zone = Zone::parse("a.b 1 CNAME b.b\nb.b 1 CNAME a.b\n").unwrap();
        assert_eq!(
            zone.reply(&question("a.b", 1), None).unwrap()[7],
            MOST_ALIASES as u8
        );
        let mut message = question("a.b", 1);
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0]);
        let reply = zone.reply(&message, None).unwrap();
        assert_eq!((reply[3], reply[11]), (0, 1));
        assert!(
            reply.ends_with(&[0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]),
            "BADVERS"
        );
    }

    #[test]
    fn a_dot_in_a_label_is_no_end_of_it() {
        let zone = Zone::parse(ZONE).unwrap();
        let mut message = question("wwwXexample", 1);
        message[16] = b'.';
        assert_eq!(zone.reply(&message, None).unwrap()[3], REFUSED);
    }

    #[test]
    fn no_message_makes_it_fail_and_replies_get_none() {
        let zone = Zone::parse(ZONE).unwrap();
        let whole = question("www.example", 1);
        for len in 0..whole.len() {
            let _ = zone.reply(&whole[..len], None);
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 63, 64, 128, 192, 255] {
                let mut message = whole.clone();
                message[at] = byte;
                let _ = zone.reply(&message, None);
            }
        }
        let mut reply = whole;
        reply[2] |= 0x80;
        assert_eq!(zone.reply(&reply, None), None);
    }

    #[test]
    fn a_wrong_line_of_the_zone_is_told_with_its_number() {
        for (line, part) in [
            ("www.example 60 A", "expected NAME TTL TYPE VALUE"),
            ("", "no records"),
            ("www.example x A 192.0.2.1", "invalid digit"),
            ("www.example 60 MX a", "no type MX"),
            ("a..b 60 A 192.0.2.1", "no name"),
        ] {
            let error = Zone::parse(&format!("\n{line}\n")).unwrap_err().to_string();
            assert!(line.is_empty() || error.contains("line 2"), "{error}");
            assert!(error.contains(part), "{error}");
        }
    }
}
