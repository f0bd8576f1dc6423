//! What does a token endpoint see of 10 000 replicas when it comes back after an outage? A simulation, the same each time, with each
//! replica for itself and with all of them on one store. With `HERD_PLOT=docs/herd.svg` it draws what it found.

mod simulation;

use std::{process::ExitCode, time::Duration};

use plotters::prelude::*;
use simulation::{DOWN, END, Outcome, UP, run};

const REPLICAS: u64 = 10_000;

/// What a token endpoint has to bear once an outage has lasted for two minutes: by then everybody waits 30 to 60 s between attempts.
const BOUND: u32 = (REPLICAS / 30) as u32;

fn main() -> ExitCode {
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let tell = |minute: Duration| {
        if minute.as_secs().is_multiple_of(900) {
            println!("  minute {} of {}", minute.as_secs() / 60, END.as_secs() / 60);
        }
    };
    println!("{REPLICAS} replicas, each for itself");
    let alone = run(REPLICAS, false, tell);
    println!("{REPLICAS} replicas on one store");
    let shared = run(REPLICAS, true, tell);

    let settled = DOWN + Duration::from_secs(600);
    println!("\n{:<34}{:>12}{:>12}", "token requests", "each alone", "one store");
    for (what, from, to) in [
        ("at the start, in the first second", Duration::ZERO, Duration::from_secs(1)),
        ("the most in a second, before", Duration::from_secs(1), DOWN),
        ("the most in a second, going down", DOWN, settled),
        ("the most in a second, while down", settled, UP),
        ("the most in a second, after", UP, END),
    ] {
        println!("{what:<34}{:>12}{:>12}", alone.peak(from, to), shared.peak(from, to));
    }
    println!("{:<34}{:>12}{:>12}", "in the whole outage", alone.sum(DOWN, UP), shared.sum(DOWN, UP));
    println!(
        "{:<34}{:>10} s{:>10} s",
        "until the last one has a token",
        alone.recovered.as_secs(),
        shared.recovered.as_secs()
    );

    if let Ok(path) = std::env::var("HERD_PLOT") {
        plot(&path, &alone, &shared).expect("the plot can be drawn");
        println!("\ndrawn: {path}");
    }
    let peak = alone.peak(settled, END);
    println!(
        "\nRESULT {{\"replicas\":{REPLICAS},\"bound\":{BOUND},\"peak_alone\":{peak},\"peak_shared\":{},\"recovered_alone_s\":{},\
         \"recovered_shared_s\":{}}}",
        shared.peak(Duration::ZERO, END),
        alone.recovered.as_secs(),
        shared.recovered.as_secs()
    );
    let holds = peak <= BOUND && shared.peak(Duration::ZERO, END) <= 2;
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Two panels with one time axis: requests each second.
fn plot(path: &str, alone: &Outcome, shared: &Outcome) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (900, 520)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(300);
    let minutes = END.as_secs_f64() / 60.0;
    let outage = (DOWN.as_secs_f64() / 60.0, UP.as_secs_f64() / 60.0);
    let highest = f64::from(alone.peak(Duration::from_secs(1), END)) * 1.1;
    for (area, outcome, top, title) in [
        (above, alone, highest, "10 000 replicas, each for itself: token requests a second"),
        (below, shared, 4.0, "10 000 replicas on one store"),
    ] {
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .caption(title, ("sans-serif", 17))
            .x_label_area_size(32)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..minutes, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("minutes")
            .disable_x_mesh()
            .y_labels(5)
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|minute| format!("{minute:.0}"))
            .y_label_formatter(&|count| format!("{count:.0}"))
            .draw()?;
        chart.draw_series([Rectangle::new(
            [(outage.0, 0.0), (outage.1, top)],
            RGBColor(200, 60, 40).mix(0.12).filled(),
        )])?;
        // At the start all come at once; that second is written into the text, not drawn.
        let seconds = outcome.requests.iter().enumerate().skip(1);
        let points = seconds.map(|(second, count)| (second as f64 / 60.0, f64::from(*count).min(top)));
        chart.draw_series(LineSeries::new(points, RGBColor(20, 90, 160).stroke_width(1)))?;
        if top > 10.0 {
            let bound = f64::from(BOUND);
            chart
                .draw_series(LineSeries::new([(0.0, bound), (minutes, bound)], RGBColor(90, 90, 90).stroke_width(1)))?;
            let text = ("sans-serif", 13).into_font().color(&RGBColor(70, 70, 70));
            chart.draw_series([Text::new(
                "bound after two minutes: replicas / 30 s",
                (62.0, bound + top * 0.055),
                text.clone(),
            )])?;
            chart.draw_series([Text::new("the token endpoint is down", (outage.0 + 8.0, top * 0.97), text)])?;
        }
    }
    root.present()?;
    Ok(())
}
