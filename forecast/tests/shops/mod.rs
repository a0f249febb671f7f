//! Shops with a day, a week, noise, and promotions that multiply their load: much at first, less towards the end.

use std::f64::consts::TAU;

use foreshard_forecast::events::Event;

/// Unix hours.
pub(crate) const START: i64 = 381_288;
/// Ten weeks.
pub(crate) const HOURS: i64 = 70 * 24;
/// Hours of one promotion.
const PROMOTION_HOURS: i64 = 10;
/// How much more load its first hour has, in log.
const EFFECT: f64 = 1.5;

/// One entity.
#[derive(Debug)]
pub(crate) struct Shop {
    /// As in the calendar.
    pub(crate) name: String,
    /// Hour by hour from [`START`].
    pub(crate) loads: Vec<f64>,
    /// In the order of their begin.
    pub(crate) promotions: Vec<Event>,
}

/// Thirty of them; promotions begin with the fifth week, at any hour, each shop's about eleven days apart.
pub(crate) fn shops(seed: u64) -> Vec<Shop> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..30).map(|index| shop(index, &mut random)).collect()
}

fn shop(index: usize, random: &mut fastrand::Rng) -> Shop {
    let name = format!("shop:{index}");
    let level = 3.0 + 4.0 * random.f64();
    let (height, evening) = (0.4 + 0.6 * random.f64(), 24.0 * random.f64());
    let strength = 0.7 + 0.6 * random.f64();
    let mut promotions = Vec::new();
    let mut from = START + 30 * 24 + random.i64(0..30 * 24);
    while from + PROMOTION_HOURS < START + HOURS {
        promotions.push(Event {
            kind: "sale".to_owned(),
            entities: name.clone(),
            from,
            to: from + PROMOTION_HOURS,
            announced: from - 72,
        });
        from += random.i64(8 * 24..14 * 24);
    }
    let mut drift = 0.0;
    let mut load = |hour: i64| {
        drift = 0.9 * drift + 0.1 * (random.f64() - 0.5);
        let day = height * (TAU * (hour as f64 - evening) / 24.0).sin();
        let weekend = if (hour / 24) % 7 < 2 { -0.3 } else { 0.0 };
        let sale = promotions.iter().find(|event| (event.from..event.to).contains(&hour));
        let sale = sale.map_or(0.0, |event| EFFECT * strength * (1.0 - 0.06 * (hour - event.from) as f64));
        (level + day + weekend + drift + 0.3 * (random.f64() - 0.5) + sale).exp()
    };
    let loads = (START..START + HOURS).map(&mut load).collect();
    Shop { name, loads, promotions }
}
