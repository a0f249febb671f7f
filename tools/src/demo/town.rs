//! A generated trace: shops of a small town, some weeks of them and the days that are replayed. No I/O; one seed, one town.
//!
//! Every shop has its own level, hour of the day and weekend, and noise; some grow. There were sales, which are known as
//! events; a few shops have their first one in the days that are replayed, announced a week before. One shop has a rush on
//! the first of these days, which nobody announced.

use fastrand::Rng;

use crate::load::trace::Trace;

/// A Monday, in Unix hours: 2026-01-05.
const START: i64 = 490_992;
/// Hours that are known when the replay begins.
pub(super) const KNOWN_HOURS: usize = 28 * 24;
/// Hours that may be replayed.
pub(super) const REPLAYED_HOURS: usize = 48;
const SHOPS: usize = 36;
/// Part of the requests that read.
const READS: f64 = 0.8;
/// Shops with sales in the weeks before, and with a first one in the replay.
const OLD_SALES: std::ops::Range<usize> = 0..4;
const FIRST_SALES: std::ops::Range<usize> = 4..7;
/// What a sale does, and a rush.
const SALE: f64 = 2.4;
const RUSH: f64 = 4.0;
const SALE_HOURS: i64 = 4;
/// The shop that has a rush, and its hours from the begin of the replay.
const RUSHED: usize = 9;
const RUSH_HOURS: std::ops::Range<i64> = 14..17;

/// An event, in Unix hours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sale {
    pub(super) name: String,
    pub(super) entities: String,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) announced: i64,
}

/// The town.
#[derive(Debug)]
pub(super) struct Town {
    /// All hours, known and replayed.
    pub(super) trace: Trace,
    pub(super) sales: Vec<Sale>,
}

/// One shop.
struct Shop {
    level: f64,
    peak: f64,
    width: f64,
    weekend: f64,
    growth: f64,
}

/// The first hour that is replayed.
pub(super) const fn replay_start() -> i64 {
    START + KNOWN_HOURS as i64
}

impl Town {
    /// A town whose shops have so many requests a second, together and on average.
    pub(super) fn new(seed: u64, rate: f64) -> Self {
        let mut random = Rng::with_seed(seed);
        let names: Vec<String> = (0..SHOPS).map(|shop| format!("shop:{shop:02}")).collect();
        let sales = sales(&names);
        let hours = KNOWN_HOURS + REPLAYED_HOURS;
        let mut loads = Vec::with_capacity(SHOPS * hours);
        for (index, name) in names.iter().enumerate() {
            let shop = Shop::new(index, &mut random);
            for hour in (START..).take(hours) {
                let on_sale =
                    sales.iter().any(|sale| sale.entities == *name && (sale.from..sale.to).contains(&hour));
                let rushed = index == RUSHED && RUSH_HOURS.contains(&(hour - replay_start()));
                let special = if on_sale { SALE } else { 1.0 } * if rushed { RUSH } else { 1.0 };
                loads.push(shop.load(hour) * special * (0.08 * normal(&mut random)).exp());
            }
        }
        let mean = loads.iter().sum::<f64>() / hours as f64;
        #[expect(clippy::cast_possible_truncation, reason = "the precision that rates are kept in")]
        let split = |load: f64| [(load * READS) as f32, (load * (1.0 - READS)) as f32];
        let rates = loads.into_iter().map(|load| split(load * rate / mean)).collect();
        Self { trace: Trace::new(names, START, rates), sales }
    }

    /// The hours that are known when the replay begins, as a planner takes them in.
    pub(super) fn known(&self) -> String {
        self.rows(KNOWN_HOURS)
    }

    /// All hours, as a file.
    pub(super) fn text(&self) -> String {
        self.rows(KNOWN_HOURS + REPLAYED_HOURS)
    }

    fn rows(&self, hours: usize) -> String {
        let mut text = String::from("time,entity,reads,writes\n");
        for (entity, name) in self.trace.names.iter().enumerate() {
            for hour in 0..hours {
                let [reads, writes] = self.trace.rates(entity, hour);
                text += &format!("{},{name},{reads:.3},{writes:.3}\n", (START + hour as i64) * 3600);
            }
        }
        text
    }
}

impl Shop {
    fn new(index: usize, random: &mut Rng) -> Self {
        Self {
            level: (0.7 * normal(random)).exp(),
            // Most open late in the morning, some in the evening.
            peak: if random.u8(..4) == 0 { 19.0 } else { 12.5 } + 1.5 * normal(random),
            width: 2.0 + 2.0 * random.f64(),
            weekend: 0.4 + 0.8 * random.f64(),
            growth: if index % 9 == 8 { 0.8 } else { 0.0 },
        }
    }

    fn load(&self, hour: i64) -> f64 {
        let of_day = hour.rem_euclid(24) as f64 + 0.5;
        let away = (of_day - self.peak).abs();
        let away = away.min(24.0 - away) / self.width;
        let day = 0.12 + (-0.5 * away * away).exp();
        let since = hour - START;
        let week = if since.div_euclid(24).rem_euclid(7) >= 5 { self.weekend } else { 1.0 };
        let grown = 1.0 + self.growth * since as f64 / (KNOWN_HOURS + REPLAYED_HOURS) as f64;
        self.level * day * week * grown
    }
}

fn sales(names: &[String]) -> Vec<Sale> {
    let mut sales = Vec::new();
    let mut add = |shop: usize, from: i64| {
        let (name, entities) = (format!("sale-{shop:02}-{from}"), names[shop].clone());
        sales.push(Sale { name, entities, from, to: from + SALE_HOURS, announced: from - 7 * 24 });
    };
    for week in 1..4 {
        // Wednesdays and Thursdays, from four in the afternoon.
        for shop in OLD_SALES {
            add(shop, START + (7 * week + 2 + (shop as i64 & 1)) * 24 + 16);
        }
    }
    for shop in FIRST_SALES {
        add(shop, replay_start() + 24 + 16);
    }
    sales
}

/// Standard normal, by Box and Muller.
fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(town: &Town, shop: usize, hour: i64) -> f64 {
        town.trace.rates(shop, usize::try_from(hour - START).unwrap()).iter().sum()
    }

    #[test]
    fn one_seed_is_one_town_with_the_rate_that_was_asked_for() {
        let (town, again) = (Town::new(3, 500.0), Town::new(3, 500.0));
        assert_eq!(town.trace, again.trace);
        assert_ne!(town.trace, Town::new(4, 500.0).trace);
        let hours = i64::try_from(KNOWN_HOURS + REPLAYED_HOURS).unwrap();
        let all: f64 = (START..START + hours)
            .map(|hour| (0..SHOPS).map(|shop| load(&town, shop, hour)).sum::<f64>())
            .sum();
        assert!((all / hours as f64 - 500.0).abs() < 1.0, "{all}");
        assert_eq!(town.known().lines().count(), 1 + SHOPS * KNOWN_HOURS);
    }

    #[test]
    fn a_sale_and_a_rush_are_seen_where_they_are() {
        let town = Town::new(1, 1000.0);
        let sale = town.sales.iter().find(|sale| sale.from > replay_start()).unwrap();
        let shop = town.trace.names.iter().position(|name| *name == sale.entities).unwrap();
        assert!(load(&town, shop, sale.from + 1) > 1.7 * load(&town, shop, sale.from + 1 - 24));
        let rush = replay_start() + RUSH_HOURS.start + 1;
        assert!(load(&town, RUSHED, rush) > 2.5 * load(&town, RUSHED, rush + 24));
        assert!(town.sales.iter().all(|sale| sale.announced < sale.from));
    }
}
