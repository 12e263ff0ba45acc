// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is on the screen, and what keys do to it.

use super::super::human::{bytes, span};
use super::super::ps::command_line;
use super::super::table::{clean, cut};
use super::sample::{News, Of, Sample};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use std::cmp::Ordering;
use std::ops::ControlFlow;
use unicode_width::UnicodeWidthStr;

/// Which table is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Networks,
    Peers,
    Containers,
}

impl Tab {
    const ALL: [Self; 3] = [Self::Networks, Self::Peers, Self::Containers];

    fn title(self) -> &'static str {
        match self {
            Self::Networks => "Networks",
            Self::Peers => "Peers",
            Self::Containers => "Containers",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Self::Networks => NETWORKS,
            Self::Peers => PEERS,
            Self::Containers => CONTAINERS,
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
struct Column {
    title: &'static str,
    /// Numbers stand at the right.
    right: bool,
    /// Columns of a higher number go first when there is no room.
    rank: u8,
    /// What is left of it at least; what is longer is cut when there is little room.
    least: usize,
}

const fn text(title: &'static str, rank: u8, least: usize) -> Column {
    Column {
        title,
        right: false,
        rank,
        least,
    }
}

const fn number(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        right: true,
        rank,
        least: usize::MAX,
    }
}

const NETWORKS: &[Column] = &[
    text("NAME", 0, 16),
    text("STATUS", 1, 6),
    text("ADDRESSES", 3, 18),
    number("PEERS", 2),
    number("PROGRAMS", 4),
    number("IN/s", 0),
    number("OUT/s", 0),
    number("IN", 5),
    number("OUT", 5),
    number("MTU", 6),
    text("ID", 7, 16),
];

const PEERS: &[Column] = &[
    text("PEER", 0, 12),
    text("NETWORK", 1, 12),
    text("ENDPOINT", 3, 21),
    number("HANDSHAKE", 2),
    number("IN/s", 0),
    number("OUT/s", 0),
    number("IN", 4),
    number("OUT", 4),
    number("DROPS", 5),
    text("ADDRESSES", 6, 18),
];

const CONTAINERS: &[Column] = &[
    number("PID", 1),
    text("COMMAND", 0, 12),
    text("NETWORK", 1, 12),
    number("SOCKETS", 2),
    number("UP", 3),
    number("IN/s", 0),
    number("OUT/s", 0),
    number("IN", 4),
    number("OUT", 4),
    number("ID", 5),
];

/// One cell: as it is shown, and as it is sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    shown: String,
    key: Key,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Text(String),
    Number(u64),
}

impl Value {
    fn text(text: impl Into<String>) -> Self {
        let shown = clean(&text.into());
        Self {
            key: Key::Text(shown.to_lowercase()),
            shown,
        }
    }

    fn number(number: u64, shown: String) -> Self {
        Self {
            shown,
            key: Key::Number(number),
        }
    }

    fn count(number: usize) -> Self {
        Self::number(number.try_into().unwrap_or(u64::MAX), number.to_string())
    }

    fn bytes(number: u64) -> Self {
        Self::number(number, bytes(number))
    }

    /// Numbers are sorted from the largest on.
    fn compare(&self, other: &Self) -> Ordering {
        match (&self.key, &other.key) {
            (Key::Text(one), Key::Text(two)) => one.cmp(two),
            (Key::Number(one), Key::Number(two)) => two.cmp(one),
            (Key::Text(_), Key::Number(_)) => Ordering::Less,
            (Key::Number(_), Key::Text(_)) => Ordering::Greater,
        }
    }
}

/// What is shown, and how.
#[derive(Debug)]
pub(super) struct View {
    sample: Option<Box<Sample>>,
    lost: Option<String>,
    tab: Tab,
    /// Title of the column by which each tab is sorted.
    sort: [usize; 3],
    reverse: bool,
    paused: bool,
    /// First row that is shown.
    scroll: usize,
    /// Rows that fitted last time.
    page: usize,
    colours: bool,
}

/// Below this nothing sensible fits.
const SMALLEST: (u16, u16) = (30, 4);
/// Blanks between columns.
const GAP: usize = 2;

impl View {
    /// Nothing yet.
    pub(super) fn new(colours: bool) -> Self {
        Self {
            sample: None,
            lost: None,
            tab: Tab::Networks,
            sort: [0, 0, 1],
            reverse: false,
            paused: false,
            scroll: 0,
            page: 1,
            colours,
        }
    }

    /// Something new.
    pub(super) fn update(&mut self, news: News) {
        match news {
            News::Sample(_) if self.paused => {}
            News::Sample(sample) => {
                self.lost = None;
                self.sample = Some(sample);
            }
            News::Lost(why) => self.lost = Some(why),
        }
    }

    /// A key was pressed. Break: it is enough.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the keys of a keyboard are not ours to list"
    )]
    pub(super) fn key(&mut self, key: KeyEvent) -> ControlFlow<()> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return ControlFlow::Break(()),
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => return ControlFlow::Break(()),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.go(1),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => self.go(2),
            KeyCode::Char('1') => self.open(Tab::Networks),
            KeyCode::Char('2') => self.open(Tab::Peers),
            KeyCode::Char('3') => self.open(Tab::Containers),
            KeyCode::Char('s') => self.sort_by(1),
            KeyCode::Char('S') => self.sort_by(self.tab.columns().len() - 1),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(self.page),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll = usize::MAX,
            // Other keys do nothing.
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn go(&mut self, steps: usize) {
        self.open(Tab::ALL[(self.index() + steps) % Tab::ALL.len()]);
    }

    fn open(&mut self, tab: Tab) {
        self.tab = tab;
        self.scroll = 0;
    }

    fn sort_by(&mut self, steps: usize) {
        let index = self.index();
        self.sort[index] = (self.sort[index] + steps) % self.tab.columns().len();
        self.scroll = 0;
    }

    fn index(&self) -> usize {
        Tab::ALL
            .iter()
            .position(|tab| *tab == self.tab)
            .unwrap_or(0)
    }

    /// Draws everything.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
            return frame.render_widget(Paragraph::new("too small; q: quit"), area);
        }
        // The table is what matters: other lines give way to it.
        let footer = u16::from(area.height >= 6);
        let gap = u16::from(area.height >= 10);
        let [head, tabs, _, table, _, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(gap),
            Constraint::Min(1),
            Constraint::Length(gap),
            Constraint::Length(footer),
        ])
        .areas(area);
        frame.render_widget(self.head(area.width.into()), head);
        frame.render_widget(self.tabs(), tabs);
        self.draw_table(frame, table);
        frame.render_widget(self.foot(area.width.into()), foot);
    }

    fn style(&self, colour: Option<Color>, modifier: Modifier) -> Style {
        let style = Style::new().add_modifier(modifier);
        match colour {
            Some(colour) if self.colours => style.fg(colour),
            Some(_) | None => style,
        }
    }

    fn head(&self, width: usize) -> Line<'static> {
        if let Some(lost) = &self.lost {
            let style = self.style(Some(Color::Red), Modifier::BOLD);
            return Line::styled(cut(&clean(lost), width), style);
        }
        let Some(sample) = &self.sample else {
            return Line::raw("waiting for the supervisor");
        };
        let status = &sample.status;
        let (down, up) = sample.rates.get(&Of::All).copied().unwrap_or_default();
        let rates = format!("in {}/s  out {}/s", bytes(down), bytes(up));
        let long = format!(
            "netcon-supervisor {}, up {}, UDP {}",
            clean(&status.version),
            span(status.uptime_seconds),
            status.udp_port
        );
        let short = format!("up {}", span(status.uptime_seconds));
        let fits = |left: &str| left.width() + rates.width() + GAP <= width;
        let left = [long, short]
            .into_iter()
            .find(|left| fits(left))
            .unwrap_or_default();
        let blanks = width.saturating_sub(left.width() + rates.width());
        Line::from(vec![
            Span::raw(left),
            Span::raw(" ".repeat(blanks)),
            Span::styled(rates, self.style(None, Modifier::BOLD)),
        ])
    }

    fn tabs(&self) -> Line<'static> {
        let counts = self.sample.as_ref().map_or([0; 3], |sample| {
            [
                sample.networks.len(),
                sample.peers.len(),
                sample.containers.len(),
            ]
        });
        let spans = Tab::ALL.iter().zip(counts).flat_map(|(tab, count)| {
            let text = format!(" {} {count} ", tab.title());
            let style = if *tab == self.tab {
                self.style(None, Modifier::REVERSED)
            } else {
                Style::new()
            };
            [Span::styled(text, style), Span::raw(" ")]
        });
        spans.collect()
    }

    fn foot(&self, width: usize) -> Line<'static> {
        let by = self.tab.columns()[self.sort[self.index()]].title;
        let order = if self.reverse { " reversed" } else { "" };
        let paused = if self.paused { "PAUSED  " } else { "" };
        let long = format!(
            "{paused}q quit  Tab next  s sort (by {by}{order})  r reverse  p pause  arrows scroll"
        );
        let short = format!("{paused}q quit  Tab next  s sort  p pause");
        let text = if long.width() <= width {
            long
        } else {
            cut(&short, width)
        };
        Line::styled(text, self.style(None, Modifier::DIM))
    }

    fn draw_table(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let mut rows = self
            .sample
            .as_deref()
            .map_or_else(Vec::new, |sample| rows(self.tab, sample));
        let sort = self.sort[self.index()];
        rows.sort_by(|one, two| {
            one[sort]
                .compare(&two[sort])
                .then_with(|| one[0].compare(&two[0]))
        });
        if self.reverse {
            rows.reverse();
        }
        let columns = self.tab.columns();
        let widths = widths(columns, &rows, area.width.into());
        self.page = usize::from(area.height.saturating_sub(1)).max(1);
        self.scroll = self.scroll.min(rows.len().saturating_sub(self.page));
        let heading = self.style(None, Modifier::BOLD);
        let sorted = self.style(
            Some(Color::Cyan),
            Modifier::BOLD.union(Modifier::UNDERLINED),
        );
        let mut lines = vec![line(columns, &widths, |column| {
            let style = if column == sort { sorted } else { heading };
            (columns[column].title.to_owned(), style)
        })];
        if rows.is_empty() && self.sample.is_some() {
            let nothing = match self.tab {
                Tab::Networks => "none yet; make one with: netcon network create NAME",
                Tab::Peers => "none yet; add one with: netcon peer add NETWORK NAME --export",
                Tab::Containers => "none; start one with: netcon-shim --net NETWORK PROGRAM",
            };
            lines.push(Line::styled(
                cut(nothing, area.width.into()),
                self.style(None, Modifier::DIM),
            ));
        }
        for row in rows.iter().skip(self.scroll).take(self.page) {
            lines.push(line(columns, &widths, |column| {
                let value = &row[column];
                let colour = match value.shown.as_str() {
                    "FAILED" => Some(Color::Red),
                    "OK" => Some(Color::Green),
                    _ => None,
                };
                (value.shown.clone(), self.style(colour, Modifier::empty()))
            }));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }
}

/// The width of each column; none for those for which there is no room.
fn widths(columns: &[Column], rows: &[Vec<Value>], room: usize) -> Vec<Option<usize>> {
    let natural: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().map(|row| row[index].shown.width());
            cells.chain([column.title.width()]).max().unwrap_or(0)
        })
        .collect();
    let least = |index: usize| natural[index].min(columns[index].least);
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let needed = |shown: &[usize]| shown.iter().map(|index| least(*index) + GAP).sum::<usize>();
    while needed(&shown) > room + GAP {
        match shown
            .iter()
            .copied()
            .max_by_key(|index| columns[*index].rank)
        {
            Some(index) if columns[index].rank > 0 => shown.retain(|other| *other != index),
            Some(_) | None => break,
        }
    }
    let mut widths: Vec<Option<usize>> = vec![None; columns.len()];
    let mut left = (room + GAP).saturating_sub(needed(&shown));
    for index in shown {
        let more = left.min(natural[index] - least(index));
        left -= more;
        widths[index] = Some(least(index) + more);
    }
    widths
}

fn line(
    columns: &[Column],
    widths: &[Option<usize>],
    cell: impl Fn(usize) -> (String, Style),
) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, width) in widths.iter().enumerate() {
        let Some(width) = *width else {
            continue;
        };
        let (text, style) = cell(index);
        let text = cut(&text, width);
        let blanks = " ".repeat(width.saturating_sub(text.width()));
        let text = Span::styled(text, style);
        if !spans.is_empty() {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        if columns[index].right {
            spans.extend([Span::raw(blanks), text]);
        } else {
            spans.extend([text, Span::raw(blanks)]);
        }
    }
    Line::from(spans)
}

/// The rows of a tab: a value for each of its columns.
fn rows(tab: Tab, sample: &Sample) -> Vec<Vec<Value>> {
    let rate = |of: Of| {
        let (rx, tx) = sample.rates.get(&of).copied().unwrap_or_default();
        [Value::bytes(rx), Value::bytes(tx)]
    };
    match tab {
        Tab::Networks => sample
            .networks
            .iter()
            .map(|network| {
                let of = |name: &String| *name == network.name;
                let peers = || {
                    sample
                        .peers
                        .iter()
                        .filter(|(name, _)| of(name))
                        .map(|(_, peer)| peer)
                };
                let programs = sample
                    .containers
                    .iter()
                    .filter(|container| of(&container.network));
                let status = if network.failure.is_none() {
                    "OK"
                } else {
                    "FAILED"
                };
                let [rx, tx] = rate(Of::Network(network.name.clone()));
                vec![
                    Value::text(&network.name),
                    Value::text(status),
                    Value::text(network.assigned_addresses.join(", ")),
                    Value::count(network.peers),
                    Value::count(programs.count()),
                    rx,
                    tx,
                    Value::bytes(
                        peers()
                            .map(|peer| peer.rx_bytes)
                            .fold(0, u64::saturating_add),
                    ),
                    Value::bytes(
                        peers()
                            .map(|peer| peer.tx_bytes)
                            .fold(0, u64::saturating_add),
                    ),
                    Value::number(network.mtu.into(), network.mtu.to_string()),
                    Value::text(&network.id),
                ]
            })
            .collect(),
        Tab::Peers => sample
            .peers
            .iter()
            .map(|(network, peer)| {
                let name = peer.name.as_ref().unwrap_or(&peer.public_key);
                let handshake = match peer.last_handshake {
                    Some(at) => {
                        let age = sample.now.saturating_sub(at);
                        // The youngest first: numbers are sorted from the largest on.
                        Value::number(u64::MAX - age, span(age))
                    }
                    None => Value::number(0, "never".to_owned()),
                };
                let [rx, tx] = rate(Of::Peer(network.clone(), peer.public_key.clone()));
                let drops = peer.drops.values().copied().fold(0, u64::saturating_add);
                vec![
                    Value::text(name),
                    Value::text(network),
                    Value::text(peer.endpoint.as_deref().unwrap_or("-")),
                    handshake,
                    rx,
                    tx,
                    Value::bytes(peer.rx_bytes),
                    Value::bytes(peer.tx_bytes),
                    Value::number(drops, drops.to_string()),
                    Value::text(peer.allowed_ips.join(", ")),
                ]
            })
            .collect(),
        Tab::Containers => sample
            .containers
            .iter()
            .map(|container| {
                let [rx, tx] = rate(Of::Container(container.id));
                let up = sample.now.saturating_sub(container.started);
                vec![
                    Value::number(container.pid.into(), container.pid.to_string()),
                    Value::text(command_line(&container.command, &container.program)),
                    Value::text(&container.network),
                    Value::count(container.sockets),
                    Value::number(up, span(up)),
                    rx,
                    tx,
                    Value::bytes(container.rx_bytes),
                    Value::bytes(container.tx_bytes),
                    Value::number(container.id, container.id.to_string()),
                ]
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
