//! One world: its hosts, their traffic, and the rules at its end.

use crate::accepting::{self, AnyServer, Serving};
use crate::asker::Asker;
use crate::client::Client;
use crate::datagrams::Questions;
use crate::layers::{Layers, Stack};
use crate::ledger::{Guard, Ledger};
use crate::limits::{Budget, Limits};
use crate::outcome::Outcome;
use crate::programs::Programs;
use crate::servers::{BufferedEcho, Echo, echo};
use crate::service::{self, Service};
use crate::stream_client;
use crate::talker::Talker;
use crate::watched::Watched;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{ConnectOptions, Handle, ListenOptions, Protocol, Relay, WriteLimits};
use tidegate_framing::Framed;
use tidegate_streams::{spawn_on, start_server_on};
use tidegate_testkit::{Clock, Fault, Faults, Host, Link, StepLimitExceeded, World};

const PORT: u16 = 7;

/// As [`PORT`], with layers.
const LAYERED: u16 = 8;

/// Layers come later, behind a line of the client.
const UPGRADED: u16 = 9;

/// Services that reply to frames.
const SERVICE: u16 = 10;

const SERVERS: usize = 8;
const CLIENTS: usize = 12;
const CONNECTIONS: usize = 8;

/// The time in which clients connect, and faults strike.
const TRAFFIC: Duration = Duration::from_secs(60);

/// The time in which everything has to end when nothing goes wrong any more.
const CALM: Duration = Duration::from_secs(4 * 3600);

/// The number of looks in each of these times.
const LOOKS: u32 = 150;

/// Runs the world of a seed.
pub(crate) fn run(seed: u64, trace: bool) -> Outcome {
    let ledger = Ledger::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::builder()
        .seed(seed)
        .link(any_link(&mut rng))
        .trace(trace)
        // TLS draws random bytes.
        .trace_lengths(true)
        .step_limit(2_000_000)
        .build();
    if let Err(error) = live(&mut world, &ledger, &mut rng) {
        ledger.violation(format!("{error}: {}", ledger.show_open(None)));
    }
    let (struck, trace, elapsed) = (world.fault_counts(), world.trace(), world.elapsed());
    drop(world);
    ledger.balance();
    ledger.nothing_is_open();
    Outcome::of(&ledger, struck, trace, elapsed)
}

fn live(world: &mut World, ledger: &Rc<Ledger>, rng: &mut fastrand::Rng) -> io::Result<()> {
    let clock = world.clock();
    let budgets: Vec<_> = (0..SERVERS + CLIENTS).map(|_| Budget::any(rng)).collect();
    let hosts = add_hosts(world, &budgets, ledger)?;
    let layers = Layers::new(ledger, &clock, rng);
    let stacks: Vec<_> = (0..SERVERS).map(|_| Stack::any(rng)).collect();
    let services: Vec<_> = (0..SERVERS).map(|_| Service::any(rng)).collect();
    let mut start = Start {
        hosts: &hosts,
        ledger,
        layers: &layers,
        stacks: &stacks,
        services: &services,
        clock,
        rng,
    };
    let servers = start.servers()?;
    accepting::schedule(world, &servers, 2 * TRAFFIC, ledger, start.rng);
    let ends = hosts.split_at(SERVERS);
    let questions = Questions::start(world, ends, 2 * TRAFFIC, ledger)?;
    let programs = Programs::start(world, ends.0, 2 * TRAFFIC, ledger);
    world.network().set_faults(&any_faults(start.rng));
    start.clients(world);
    for host in &hosts {
        if rng.u32(..8) == 0 {
            let most = Some(rng.usize(4..12));
            world.network().limit_descriptors(host, most);
        }
    }
    let advance = |world: &mut World, time: Duration| {
        for _ in 0..LOOKS {
            let step = time / LOOKS;
            world.advance(step)?;
            let limits = servers.iter().map(|serving| &serving.limits);
            limits.for_each(|limits| limits.look(step));
            let each = hosts.iter().zip(&budgets);
            each.for_each(|(host, budget)| budget.look(host, ledger));
        }
        Ok::<_, StepLimitExceeded>(())
    };
    advance(world, TRAFFIC)?;
    let gone = end_some_hosts(world, &hosts, &programs, rng);
    advance(world, TRAFFIC)?;
    calm_down(world, &hosts);
    advance(world, CALM)?;
    let left: Vec<_> = hosts
        .iter()
        .filter(|host| !gone.contains(&host.name()))
        .collect();
    for host in &left {
        let stats = host.handle().stats();
        if stats.connections + stats.connecting + stats.jobs > 0 {
            let open = ledger.show_open(Some(host.handle()));
            ledger.violation(format!("{} is stuck: {open} {stats:?}", host.name()));
        }
    }
    questions.end(&left, world);
    programs.end(&left, world);
    shut_down(world, servers, ledger)?;
    for host in &left {
        nothing_left(world, host, ledger);
    }
    let (sockets, listeners) = (world.network().sockets(), world.network().listeners());
    let ports = world.network().datagram_sockets();
    if sockets + listeners + ports > 0 {
        ledger.violation(format!(
            "left in the network: {sockets} sockets, {listeners} listeners, {ports} of datagrams"
        ));
    }
    Ok(())
}

fn any_link(rng: &mut fastrand::Rng) -> Link {
    let link = Link::new()
        .latency(Duration::from_micros(rng.u64(..50_000)))
        .jitter(Duration::from_micros(rng.u64(..20_000)))
        .send_buffer(1 << rng.usize(6..17))
        .receive_buffer(1 << rng.usize(6..17));
    if rng.bool() {
        link.bandwidth(rng.u64(100_000..10_000_000))
    } else {
        link
    }
}

/// Draws a probability for each fault.
fn any_faults(rng: &mut fastrand::Rng) -> Faults {
    let all = Faults::all();
    Fault::ALL.iter().fold(Faults::none(), |faults, &fault| {
        faults.with(fault, all.probability(fault) * 2.0 * rng.f64())
    })
}

fn add_hosts(world: &mut World, budgets: &[Budget], ledger: &Rc<Ledger>) -> io::Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for (n, budget) in budgets.iter().enumerate() {
        let host = world.add_host_with(&format!("host{n}"), budget.builder())?;
        let ledger = ledger.clone();
        host.handle().set_error_handler(move |_, failure| {
            if !service::is_of_peer(failure) {
                ledger.violation(format!("reported: {failure:?}"));
            }
        });
        hosts.push(host);
    }
    Ok(hosts)
}

/// Starts everything that a world has.
struct Start<'w> {
    hosts: &'w [Host],
    ledger: &'w Rc<Ledger>,
    layers: &'w Layers,
    /// Of the servers that have layers from the start.
    stacks: &'w [Stack],
    services: &'w [Service],
    clock: Clock,
    rng: &'w mut fastrand::Rng,
}

impl Start<'_> {
    /// Three kinds of echo with callbacks, two with streams, and relays to them; all of them plain,
    /// and again behind layers. Talkers and services on the same hosts.
    fn servers(&mut self) -> io::Result<Vec<Serving>> {
        let mut servers = Vec::new();
        for n in 0..SERVERS {
            servers.push(self.server(n, None)?);
            servers.push(self.server(n, Some(&self.stacks[n]))?);
            servers.push(self.talkers(n)?);
            servers.push(self.service(n)?);
        }
        Ok(servers)
    }

    fn server(&mut self, n: usize, stack: Option<&Stack>) -> io::Result<Serving> {
        let (limits, at) = self.options(if stack.is_some() { LAYERED } else { PORT }, stack);
        let (handle, of, on) = (self.hosts[n].handle(), self.ledger.clone(), limits.clone());
        let stack = stack.cloned();
        let opens_later = stack.is_some();
        let server = match n {
            0 | 1 => handle.create_server(at, move || {
                Watched::new(&of, Echo).behind(stack.as_ref()).on(&on)
            })?,
            2 => handle.create_server(at, move || {
                let buffer = vec![0; 777];
                let watched = Watched::new(&of, BufferedEcho { buffer });
                watched.behind(stack.as_ref()).on(&on)
            })?,
            3 | 4 => {
                let server = start_server_on(handle, at, async move |reader, writer| {
                    echo(
                        of.clone(),
                        on.clone(),
                        n == 3,
                        stack.clone(),
                        reader,
                        writer,
                    )
                    .await
                })?;
                let server = AnyServer::Streams(server);
                return Ok(Serving {
                    server,
                    limits,
                    opens_later,
                });
            }
            _ => {
                let back = format!("{}:{PORT}", self.hosts[n - 5].name());
                handle.create_server(at, move || {
                    let relay = Watched::new(&of, relay_to(&back, &of));
                    relay.behind(stack.as_ref()).on(&on).half_closing()
                })?
            }
        };
        let server = AnyServer::Callbacks(server);
        Ok(Serving {
            server,
            limits,
            opens_later,
        })
    }

    fn talkers(&mut self, n: usize) -> io::Result<Serving> {
        let (limits, at) = self.options(UPGRADED, None);
        let (of, layers, on) = (self.ledger.clone(), self.layers.clone(), limits.clone());
        let mut rng = self.rng.fork();
        let server = self.hosts[n].handle().create_server(at, move || {
            Watched::new(&of, Talker::server(&of, &layers, rng.u64(..))).on(&on)
        })?;
        let server = AnyServer::Callbacks(server);
        Ok(Serving {
            server,
            limits,
            opens_later: false,
        })
    }

    fn service(&mut self, n: usize) -> io::Result<Serving> {
        let service = &self.services[n];
        let (limits, at) = self.options(SERVICE, service.stack.as_ref());
        let handle = self.hosts[n].handle();
        let server = service.listen(handle, at, &limits, self.ledger)?;
        Ok(Serving {
            server: AnyServer::Callbacks(server),
            limits,
            opens_later: service.stack.is_some(),
        })
    }

    fn options(&mut self, port: u16, stack: Option<&Stack>) -> (Rc<Limits>, ListenOptions) {
        let everywhere = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port);
        let is_plain = stack.is_none() && port != UPGRADED;
        let limits = Limits::any(self.ledger, &self.clock, is_plain, self.rng);
        let at = accepting::options(everywhere, &limits, self.ledger, self.rng);
        let at = match stack {
            Some(stack) => self.layers.listen(at, stack, self.rng),
            None => at,
        };
        (limits, at)
    }

    fn clients(&mut self, world: &World) {
        for (n, host) in self.hosts[SERVERS..].iter().enumerate() {
            for m in 0..CONNECTIONS {
                self.client(world, host, (n * CONNECTIONS + m) as u64);
            }
        }
    }

    /// One client in four has layers from the start, one in eight puts them on later, and one in four
    /// asks a service.
    fn client(&mut self, world: &World, host: &Host, of: u64) {
        let rng = &mut *self.rng;
        let at = rng.usize(..SERVERS);
        let server = &self.hosts[at];
        let (port, stack) = match rng.u32(..8) {
            0 | 1 => (LAYERED, Some(&self.stacks[at])),
            2 => (UPGRADED, None),
            3 | 4 => (SERVICE, self.services[at].stack.as_ref()),
            _ => (PORT, None),
        };
        let to = match rng.u32(..3) {
            0 => ConnectOptions::new(server.addr(port)),
            _ => ConnectOptions::new(format!("{}:{port}", server.name())),
        };
        let high = 1 << rng.usize(0..17);
        // The lines of talkers fit, and requests.
        let least = match port {
            UPGRADED => 1 << 20,
            SERVICE => 1 << 13,
            _ => 1000,
        };
        let limits = WriteLimits::new()
            .with_high(high)
            .with_cap(4 * high + least);
        let mut to = to
            .write_limits(limits)
            .timeout(Duration::from_secs(rng.u64(1..200)));
        let stack = stack.cloned();
        if let Some(stack) = &stack {
            to = self.layers.connect(to, stack, rng);
        }
        if port != UPGRADED {
            let layers = stack.as_ref().map_or("none".into(), Stack::to_string);
            self.ledger.count_stack(layers);
        }
        let seed = rng.u64(..);
        let streams = rng.u32(..3) == 0;
        let delay = Duration::from_millis(rng.u64(..2 * TRAFFIC.as_millis() as u64));
        let (ledger, layers) = (self.ledger.clone(), self.layers.clone());
        let service = self.services[at].clone();
        let handle = host.handle().clone();
        world.network().after(delay, move |_| {
            if port == UPGRADED {
                let talker = Talker::client(&ledger, &layers, of, seed);
                connect(&handle, &ledger, to, Watched::new(&ledger, talker), seed);
            } else if port == SERVICE {
                let asker = Framed::new(Asker::new(&ledger, &service, of, seed));
                let asker = Watched::new(&ledger, asker).behind(stack.as_ref());
                connect(&handle, &ledger, to, asker, seed);
            } else if streams {
                // Detached: the ledger sees it end.
                let client = stream_client::run(ledger, to, stack, of, seed);
                drop(spawn_on(&handle, client));
            } else {
                let client = Watched::new(&ledger, Client::new(&ledger, of, seed));
                let client = client.behind(stack.as_ref());
                connect(&handle, &ledger, to, client, seed);
            }
        });
    }
}

fn relay_to(back: &str, ledger: &Rc<Ledger>) -> Relay {
    let waiter = Guard::new(ledger, |ledger| &ledger.waiters);
    let ledger = ledger.clone();
    Relay::to(back).on_end(move |_, report| {
        drop(waiter);
        // The bytes that one side has taken from the other are those that it wrote.
        if let Ok(closed) = &report.back
            && report.is_clean()
            && (closed.unsent() > 0 || report.front.unsent() > 0)
        {
            ledger.violation(format!("a clean relay that lost something: {report:?}"));
        }
    })
}

fn connect(
    handle: &Handle,
    ledger: &Rc<Ledger>,
    to: ConnectOptions,
    client: impl Protocol,
    seed: u64,
) {
    let waiter = Guard::new(ledger, |ledger| &ledger.waiters);
    let connecting = handle.create_connection(to, client);
    if seed.is_multiple_of(16) {
        // It is not wanted any more.
        drop(connecting);
    } else {
        let ledger = ledger.clone();
        connecting.then(move |_, result| {
            drop(waiter);
            if let Err(error) = result
                && error.kind() == io::ErrorKind::InvalidData
            {
                ledger.violation(format!("layers did not open: {error}"));
            }
        });
    }
}

/// One world in four loses hosts in the middle of it all.
fn end_some_hosts<'h>(
    world: &mut World,
    hosts: &'h [Host],
    programs: &Programs,
    rng: &mut fastrand::Rng,
) -> Vec<&'h str> {
    let mut gone = Vec::new();
    if rng.u32(..4) == 0 {
        for _ in 0..rng.u32(1..4) {
            let host = &hosts[rng.usize(..hosts.len())];
            programs.host_ends(host);
            world.end_host(host);
            gone.push(host.name());
        }
    }
    gone
}

fn calm_down(world: &World, hosts: &[Host]) {
    world.network().set_faults(&Faults::none());
    world.network().heal_all();
    for host in hosts {
        world.network().limit_descriptors(host, None);
    }
}

fn shut_down(
    world: &mut World,
    servers: Vec<Serving>,
    ledger: &Rc<Ledger>,
) -> Result<(), StepLimitExceeded> {
    for serving in servers {
        serving.shut_down(Duration::from_secs(5), ledger);
    }
    world.run_until_idle()
}

fn nothing_left(world: &World, host: &Host, ledger: &Ledger) {
    let left = host.handle().stats();
    let all = left.connections
        + left.closing
        + left.datagram_endpoints
        + left.listeners
        + left.connecting
        + left.lingering
        + left.timers
        + left.completions
        + left.jobs;
    let descriptors = world.network().descriptors(host);
    if all + descriptors > 0 || left.buffered > 0 {
        ledger.violation(format!(
            "left at {}: {descriptors} descriptors, {left:?}",
            host.name()
        ));
    }
}
