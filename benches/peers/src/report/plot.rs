//! Plots of the tables, as SVG.

use std::path::Path;

use anyhow::Result;
use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    names::{CPU_BULK_1, CPU_BULK_16, CPU_MESSAGE, DEEP, FRESH, HEAP, SINGLE, USED},
    table::{Figures, Id, Row, Table},
    workloads::{BYTES_MUT, DEQUE_OF_BYTES, LIBEVENT, OURS},
};

const OUR_COLOUR: RGBColor = RGBColor(0xC8, 0x45, 0x1B);
const PEER_COLOURS: [RGBColor; 8] = [
    RGBColor(0x3B, 0x6E, 0xA5),
    RGBColor(0x6A, 0x9A, 0x4B),
    RGBColor(0x8A, 0x63, 0xA8),
    RGBColor(0x99, 0x99, 0x99),
    RGBColor(0x2F, 0x9C, 0x95),
    RGBColor(0xB5, 0x8B, 0x2A),
    RGBColor(0x5B, 0x5B, 0x5B),
    RGBColor(0xC0, 0x6C, 0x9A),
];
const WIDTH: u32 = 860;
const FONT: &str = "sans-serif";
const SMALL: u32 = 13;

/// A plot of a table.
enum Plot {
    /// Bars of these columns under this title.
    Bars(&'static [&'static str], &'static str),
    /// The ratio of each buffer to libevent's.
    Ratios,
    /// A line for each row over the numbers that the columns are named after; the unit.
    Lines(&'static str),
}

const PLOTS: [(Id, &str, Plot); 9] = [
    (
        Id::Proxy,
        "cpu-per-gib.svg",
        Plot::Bars(&[CPU_BULK_1, CPU_BULK_16], "CPU seconds per GiB relayed"),
    ),
    (
        Id::Proxy,
        "cpu-per-message.svg",
        Plot::Bars(&[CPU_MESSAGE], "CPU µs per message of 64 B and its answer"),
    ),
    (
        Id::Idle,
        "memory-per-pair.svg",
        Plot::Bars(
            &[FRESH, USED],
            "Resident bytes per idle pair of connections",
        ),
    ),
    (
        Id::Server,
        "cpu-per-request.svg",
        Plot::Bars(&[DEEP, SINGLE], "CPU µs per request of 40 B"),
    ),
    (Id::Buffer, "buffer.svg", Plot::Ratios),
    (Id::ScaleBulk, "scale-bulk.svg", Plot::Lines("CPU s/GiB")),
    (
        Id::ScaleMessages,
        "scale-messages.svg",
        Plot::Lines("CPU µs/message"),
    ),
    (Id::ScaleMemory, "scale-memory.svg", Plot::Lines("MiB")),
    (Id::ScaleStalled, "scale-stalled.svg", Plot::Lines("MiB")),
];

/// The files of the plots of a table.
pub(super) fn files(id: Id) -> Vec<&'static str> {
    let of_table = PLOTS.iter().filter(|(table, ..)| *table == id);
    of_table.map(|(_, file, _)| *file).collect()
}

/// Draws the plots of all tables that exist.
pub(super) fn all(figures: &Figures, dir: &Path) -> Result<()> {
    for (id, file, plot) in &PLOTS {
        let Some(table) = figures.table(*id) else {
            continue;
        };
        let file = dir.join(file);
        match plot {
            Plot::Bars(columns, title) => bars(table, columns, title, &file)?,
            Plot::Ratios => ratios(table, &file)?,
            Plot::Lines(unit) => lines(table, unit, &file)?,
        }
    }
    Ok(())
}

/// Draws a group of bars for each row: the figures of `columns`, the first dark, the others lighter.
fn bars(table: &Table, columns: &[&str], title: &str, file: &Path) -> Result<()> {
    const BAR: i32 = 13;
    const GAP: i32 = 9;
    const TOP: i32 = 58;
    const LEFT: i32 = 270;
    let rows: Vec<(&Row, Vec<f64>)> = table
        .rows
        .iter()
        .map(|row| {
            (
                row,
                columns
                    .iter()
                    .filter_map(|column| table.get(&row.name, column))
                    .collect(),
            )
        })
        .filter(|(_, figures): &(_, Vec<f64>)| figures.len() == columns.len())
        .collect();
    let most = rows
        .iter()
        .flat_map(|(_, figures)| figures)
        .copied()
        .fold(f64::MIN_POSITIVE, f64::max);
    let group = BAR * columns.len() as i32 + GAP;
    let area = canvas(file, TOP + group * rows.len() as i32 + GAP)?;
    heading(&area, title)?;
    let legend = match columns {
        [_] => "less is better".to_owned(),
        _ => format!(
            "upper bar: {}; lower bar: {}; less is better",
            columns[0], columns[1]
        ),
    };
    area.draw(&Text::new(legend, (16, 36), font(SMALL, &BLACK.mix(0.6))))?;

    let scale = f64::from(WIDTH as i32 - LEFT - 80) / most;
    for (i, (row, figures)) in rows.iter().enumerate() {
        let top = TOP + group * i as i32;
        let colour = if row.ours {
            OUR_COLOUR
        } else {
            PEER_COLOURS[0]
        };
        let middle = top + (group - GAP) / 2;
        let name = font(SMALL, &BLACK).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(row.name.clone(), (LEFT - 8, middle), name))?;
        for (j, figure) in figures.iter().enumerate() {
            let (y, end) = (top + BAR * j as i32, LEFT + (figure * scale) as i32);
            let fill = colour.mix(if j == 0 { 1.0 } else { 0.55 }).filled();
            area.draw(&Rectangle::new([(LEFT, y), (end, y + BAR - 1)], fill))?;
            let value = font(11, &BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(short(*figure), (end + 5, y + BAR / 2), value))?;
        }
    }
    area.present()?;
    Ok(())
}

/// Draws a point for each buffer and workload: its time over that of libevent's evbuffer, on a logarithmic axis.
fn ratios(table: &Table, file: &Path) -> Result<()> {
    const ROW: i32 = 21;
    const TOP: i32 = 84;
    const LEFT: i32 = 330;
    const RIGHT: i32 = WIDTH as i32 - 30;
    const LEAST: f64 = 0.01;
    const MOST: f64 = 100.0;
    let buffers = [
        (DEQUE_OF_BYTES, PEER_COLOURS[1]),
        (BYTES_MUT, PEER_COLOURS[0]),
        (OURS, OUR_COLOUR),
    ];
    let x = |ratio: f64| {
        let part = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
        LEFT + (part * f64::from(RIGHT - LEFT)) as i32
    };
    let is_time = |row: &&Row| row.name != HEAP && table.get(&row.name, LIBEVENT).is_some();
    let rows: Vec<_> = table.rows.iter().filter(is_time).collect();
    let bottom = TOP + ROW * rows.len() as i32;
    let area = canvas(file, bottom + 16)?;
    heading(
        &area,
        "Buffer operations: time over that of libevent's evbuffer",
    )?;
    for (i, (buffer, colour)) in buffers.iter().rev().enumerate() {
        let at = (24 + 150 * i as i32, 44);
        area.draw(&Circle::new(at, 5, colour.filled()))?;
        area.draw(&Text::new(
            *buffer,
            (at.0 + 12, at.1 - 6),
            font(SMALL, &BLACK),
        ))?;
    }
    for tick in [0.01, 0.1, 1.0, 10.0, 100.0] {
        let colour = if tick == 1.0 {
            BLACK.mix(0.8)
        } else {
            BLACK.mix(0.2)
        };
        area.draw(&PathElement::new(
            [(x(tick), TOP - 4), (x(tick), bottom)],
            colour,
        ))?;
        let label = font(11, &BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
        area.draw(&Text::new(format!("{tick}"), (x(tick), TOP - 6), label))?;
    }
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + ROW * i as i32 + ROW / 2;
        let name = font(SMALL, &BLACK).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(row.name.clone(), (LEFT - 10, y), name))?;
        let of = table
            .get(&row.name, LIBEVENT)
            .expect("rows without it were filtered out");
        for (buffer, colour) in &buffers {
            if let Some(figure) = table.get(&row.name, buffer) {
                area.draw(&Circle::new(
                    (x(figure / of), y),
                    5,
                    colour.mix(0.9).filled(),
                ))?;
            }
        }
    }
    area.present()?;
    Ok(())
}

/// Draws a line for each row over the numbers that the columns are named after.
fn lines(table: &Table, what: &str, file: &Path) -> Result<()> {
    let xs: Vec<f64> = table
        .columns
        .iter()
        .filter_map(|column| column.name.parse().ok())
        .collect();
    let (Some(&first), Some(&last)) = (xs.first(), xs.last()) else {
        return Ok(());
    };
    let most = table
        .rows
        .iter()
        .flat_map(|row| row.cells.iter().flatten())
        .copied()
        .fold(f64::MIN_POSITIVE, f64::max);
    let area = canvas(file, 420)?;
    if matches!(table.id, Id::ScaleMemory | Id::ScaleStalled) {
        // Only a linear axis shows whether memory grows in a straight line.
        draw_lines(&area, table, what, &xs, 0.0..last, 0.0..most * 1.05)?;
    } else {
        draw_lines(
            &area,
            table,
            what,
            &xs,
            (first..last).log_scale(),
            0.0..most * 1.05,
        )?;
    }
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_lines<X>(
    area: &Area<'_>,
    table: &Table,
    what: &str,
    xs: &[f64],
    x_axis: X,
    y_axis: std::ops::Range<f64>,
) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(&table.title, font(18, &BLACK))
        .margin(14)
        .x_label_area_size(36)
        .y_label_area_size(58)
        .build_cartesian_2d(x_axis, y_axis)?;
    let format = |figure: &f64| short(*figure);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("connections")
        .y_desc(what)
        .x_label_formatter(&format)
        .y_label_formatter(&format)
        .label_style(font(SMALL, &BLACK))
        .draw()?;
    let mut peer_colours = PEER_COLOURS.iter().cycle();
    let mut ours = 0;
    for row in &table.rows {
        // The first of this crate is the darkest.
        let (colour, width) = if row.ours {
            ours += 1;
            (OUR_COLOUR.mix(1.0 / f64::from(ours)), 3)
        } else {
            (peer_colours.next().expect("endless").mix(1.0), 2)
        };
        let style = colour.stroke_width(width);
        let points: Vec<_> = xs
            .iter()
            .zip(&row.cells)
            .filter_map(|(x, cell)| Some((*x, (*cell)?)))
            .collect();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(&row.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(
            points
                .iter()
                .map(|&point| Circle::new(point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .label_font(font(SMALL, &BLACK))
        .draw()?;
    Ok(())
}

fn canvas(file: &Path, height: i32) -> Result<Area<'_>> {
    let area = SVGBackend::new(file, (WIDTH, height.try_into()?)).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

fn heading(area: &Area<'_>, title: &str) -> Result<()> {
    area.draw(&Text::new(title.to_owned(), (16, 12), font(18, &BLACK)))?;
    Ok(())
}

fn font<'a>(size: u32, colour: &impl Color) -> TextStyle<'a> {
    (FONT, size).into_font().color(colour)
}

/// Three significant digits.
fn short(figure: f64) -> String {
    match figure {
        f if f >= 100.0 || f.fract() == 0.0 => format!("{f:.0}"),
        f if f >= 10.0 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}
