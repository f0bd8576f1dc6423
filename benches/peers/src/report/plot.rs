//! The plots.

use std::path::Path;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::results::{Entry, Results};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A bar for one thread and one for two, for each.
///
/// # Errors
///
/// If the file can't be written.
pub fn hot_path(path: &Path, results: &Results) -> Outcome {
    let count = results.peers.len();
    let root = SVGBackend::new(path, (WIDTH, 70 + count as u32 * 34)).into_drawing_area();
    root.fill(&WHITE)?;
    let costs = |entry: &Entry| {
        [Some(entry.cost.one_thread), entry.cost.two_threads].map(|ratio| ratio.map(|ratio| ratio.median))
    };
    let most = results.peers.iter().flat_map(costs).flatten().fold(1.0, f64::max) * 1.12;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .caption("cost of a request, as a ratio to a static header (dark: one thread, light: two)", ("sans-serif", 17))
        .x_label_area_size(30)
        .y_label_area_size(220)
        .build_cartesian_2d(0.0..most, 0.0..count as f64)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().light_line_style(TRANSPARENT).y_labels(0).draw()?;
    let named = ("sans-serif", 14).into_font().color(&DARK).pos(Pos::new(HPos::Right, VPos::Center));
    let valued = ("sans-serif", 12).into_font().color(&DARK).pos(Pos::new(HPos::Left, VPos::Center));
    for (at, entry) in results.peers.iter().enumerate() {
        let bottom = (count - at - 1) as f64;
        let color = if entry.is_ours() { OURS } else { OTHERS };
        for (value, (from, to, strength)) in costs(entry).into_iter().zip([(0.5, 0.88, 1.0), (0.12, 0.5, 0.5)]) {
            let Some(value) = value else { continue };
            let bar = [(0.0, bottom + from), (value.max(0.0), bottom + to)];
            chart.draw_series([Rectangle::new(bar, color.mix(strength).filled())])?;
            let label = (value.max(0.0) + most * 0.005, bottom + (from + to) / 2.0);
            chart.draw_series([Text::new(format!("{value:.2}"), label, valued.clone())])?;
        }
        let name = chart.backend_coord(&(0.0, bottom + 0.5));
        root.draw_text(&entry.name, &named, (name.0 - 8, name.1))?;
    }
    root.present()?;
    Ok(())
}

/// A panel for each who renews: the longest time of the requests that begin in a hundredth of a second.
///
/// # Errors
///
/// If the file can't be written.
pub fn expiry(path: &Path, results: &Results) -> Outcome {
    let peers: Vec<_> = results.peers.iter().filter(|entry| entry.renews()).collect();
    let rows = peers.len().div_ceil(COLUMNS);
    let root = SVGBackend::new(path, (WIDTH, 40 + rows as u32 * 130)).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(
        "longest time from a request's begin to its sending, in ms, over the seconds of the run",
        ("sans-serif", 17),
    )?;
    let most = peers.iter().map(|entry| entry.refresh.max_us / 1e3).fold(10.0, f64::max) * 1.08;
    for (area, entry) in root.split_evenly((rows, COLUMNS)).iter().zip(&peers) {
        let color = if entry.is_ours() { OURS } else { OTHERS };
        let caption = format!("{}: {:.1} % held up", entry.name, entry.refresh.stalled * 100.0);
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .caption(caption, ("sans-serif", 14))
            .x_label_area_size(20)
            .y_label_area_size(40)
            .build_cartesian_2d(0.0..results.seconds, 0.0..most)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .y_labels(4)
            .x_labels(5)
            .x_label_formatter(&|second| format!("{second:.0}"))
            .y_label_formatter(&|ms| format!("{ms:.0}"))
            .draw()?;
        let points = entry.refresh.over_time.iter().map(|&(at, took)| (f64::from(at) / 1e3, took));
        chart.draw_series(LineSeries::new(points, color.stroke_width(1)))?;
    }
    root.present()?;
    Ok(())
}

const WIDTH: u32 = 900;
const COLUMNS: usize = 2;
const DARK: RGBColor = RGBColor(60, 60, 60);
const OURS: RGBColor = RGBColor(20, 90, 160);
const OTHERS: RGBColor = RGBColor(190, 90, 50);
