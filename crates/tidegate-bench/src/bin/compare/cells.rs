//! The cells of the table: one cell is one kind of traffic with its numbers.

use tidegate_bench::carrier::Carrier;
use tidegate_bench::load::Mode;
use tidegate_bench::service::DATAGRAM;

/// How a cell is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By the load generator, in this mode.
    Load(Mode),
    /// Bytes for each idle connection.
    Idle,
    /// How far a server grows for a peer that never reads.
    Unread,
    /// How far it grows for each of many peers that are owed a megabyte and do not read.
    Owed,
    /// How far it grows in a burst of connections, and what is left of that.
    Burst,
}

#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The mode of the server.
    pub(crate) server: &'static str,
    pub(crate) carrier: Carrier,
    pub(crate) connections: usize,
    pub(crate) size: usize,
    pub(crate) depth: usize,
}

impl Cell {
    fn new(name: &str, kind: Kind, server: &'static str, connections: usize) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            server,
            carrier: Carrier::Tcp,
            connections,
            size: 64,
            depth: 1,
        }
    }

    fn echo(connections: usize, size: usize, depth: usize) -> Self {
        let bytes = match size {
            ..1024 => format!("{size}B"),
            _ => format!("{}K", size / 1024),
        };
        let (mode, behind) = match depth {
            1 => (Mode::PingPong, String::new()),
            _ => (Mode::Pipeline, format!("-depth{depth}")),
        };
        let name = format!("echo-{bytes}-x{connections}{behind}");
        Self {
            size,
            depth,
            ..Self::new(&name, Kind::Load(mode), "echo", connections)
        }
    }

    fn over_tls(self) -> Self {
        Self {
            name: format!("tls-{}", self.name),
            carrier: Carrier::Tls,
            ..self
        }
    }

    fn over_udp(self) -> Self {
        Self {
            name: format!("udp-{}", self.name),
            carrier: Carrier::Udp,
            ..self
        }
    }

    /// Whether it is measured in every round. Memory does not vary with the time of the day.
    pub(crate) fn every_round(&self) -> bool {
        matches!(self.kind, Kind::Load(_))
    }

    /// Whether the figure is bytes a second, in messages of `size`.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Load(mode) if mode.is_stream())
    }
}

/// Returns all cells, or a few. `descriptors` is the maximum for each process.
pub(crate) fn cells(quick: bool, descriptors: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    let room = usize::try_from(descriptors).unwrap_or(usize::MAX) - 100;
    let (counts, sizes): (&[usize], &[usize]) = if quick {
        (&[1, 64], &[64, 16 << 10])
    } else {
        (&[1, 64, 1000], &[64, 1 << 10, 16 << 10, 100 << 10])
    };
    for &size in sizes {
        for &connections in counts {
            if connections <= room {
                cells.push(Cell::echo(connections, size, 1));
            }
        }
    }
    let deep: &[usize] = if quick { &[64] } else { &[64, 1 << 10] };
    for &size in deep {
        cells.push(Cell::echo(64, size, 16));
    }
    cells.push(Cell {
        depth: 16,
        ..Cell::new("lines-x64-depth16", Kind::Load(Mode::Lines), "lines", 64)
    });
    for (mode, server) in [(Mode::Sink, "sink"), (Mode::Source, "source")] {
        cells.push(Cell {
            size: 64 << 10,
            ..Cell::new(&format!("{server}-64K"), Kind::Load(mode), server, 1)
        });
    }
    cells.push(Cell::new("churn", Kind::Load(Mode::Churn), "echo", 1));
    let idle = room.min(if quick { 500 } else { 9000 });
    cells.push(Cell::new("idle", Kind::Idle, "echo", idle));
    cells.push(Cell::new("unread", Kind::Unread, "echo", 1));
    cells.extend(cells_over_tls(quick, room).map(Cell::over_tls));
    cells.extend(cells_over_udp().map(Cell::over_udp));
    cells
}

/// No more is on its way than a receive buffer has room for.
fn cells_over_udp() -> impl Iterator<Item = Cell> {
    let echoes = [(1, 1), (64, 1), (1, 16)];
    let echoes = echoes.map(|(connections, depth)| Cell::echo(connections, 64, depth));
    let windows = [
        (Mode::Sink, "sink", ""),
        (Mode::SegmentedSink, "sink", "-segmented"),
        (Mode::Source, "source", ""),
    ]
    .map(|(mode, server, behind)| {
        let name = format!("{server}-{DATAGRAM}B{behind}");
        Cell {
            size: DATAGRAM,
            ..Cell::new(&name, Kind::Load(mode), server, 1)
        }
    });
    echoes.into_iter().chain(windows)
}

fn cells_over_tls(quick: bool, room: usize) -> impl Iterator<Item = Cell> {
    let sizes: &[usize] = if quick {
        &[64]
    } else {
        &[64, 16 << 10, 100 << 10]
    };
    let echo = |&size| [1, 64].map(|connections| Cell::echo(connections, size, 1));
    let [idle, owed, burst] = if quick {
        [100, 100, 300]
    } else {
        [1000, 1000, 3000]
    };
    let memory = [
        Cell::new("idle", Kind::Idle, "echo", room.min(idle)),
        Cell::new("owed", Kind::Owed, "megabyte", room.min(owed)),
        Cell::new("burst", Kind::Burst, "echo", room.min(burst)),
    ];
    sizes.iter().flat_map(echo).chain(memory)
}

/// Returns whether a name matches a pattern, in which `*` stands for anything.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(before) else {
        return false;
    };
    let places = rest.char_indices().map(|(place, _)| place);
    let mut places = places.chain([rest.len()]);
    places.any(|place| matches(after, &rest[place..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_stands_for_anything() {
        assert!(matches("echo-*", "echo-64B-x1"));
        assert!(matches("*-x1", "echo-64B-x1"));
        assert!(!matches("*-x1", "echo-64B-x1000"));
        assert!(matches("echo*x1*", "echo-64B-x1000"));
        assert!(matches("*", ""));
        assert!(!matches("echo", "echo-64B-x1"));
    }

    #[test]
    fn no_two_cells_have_one_name() {
        let mut names: Vec<String> = cells(false, 20_000).into_iter().map(|c| c.name).collect();
        let all = names.len();
        assert_eq!(all, 35);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn few_descriptors_leave_out_what_needs_more() {
        let cells = cells(false, 512);
        assert!(cells.iter().all(|cell| cell.connections < 512));
        for kind in [Kind::Idle, Kind::Owed, Kind::Burst] {
            assert!(cells.iter().any(|cell| cell.kind == kind));
        }
    }
}
