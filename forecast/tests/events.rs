//! What announced events are worth: an entity's first promotion is forecast from others', and none echoes afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod shops;

use foreshard_forecast::arima::Arima;
use foreshard_forecast::events::{Adjusted, Calendar, Effects, EffectsOf, Event, Observed};
use foreshard_forecast::hot::{Asked, Question, rolling};
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::series::to_load;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{
    Autoregression, Climatology, DAY, DoubleSeasonal, Model, SeasonalNaive, Series, WEEK, auto,
};
use shops::{HOURS, START, Shop, shops};

const CHEAP: [&dyn Model; 4] =
    [&Climatology::LAST_WEEK, &Climatology::FADING, &DoubleSeasonal, &Autoregression];

fn series(shop: &Shop) -> Series {
    let mut series = Series::new(START);
    for (hour, &load) in (START..).zip(&shop.loads) {
        series.set(hour, load).unwrap();
    }
    series
}

fn learnt(shops: &[Shop], all: &[Series], events: impl Fn(&Event) -> Option<Event>) -> Effects {
    let mut calendar = Calendar::default();
    let announced = shops.iter().flat_map(|shop| &shop.promotions).filter_map(events);
    announced.for_each(|event| calendar.add(&event).unwrap());
    let names = shops.iter().map(|shop| calendar.of(&shop.name));
    Effects::pool(all.iter().zip(names).map(|(series, dates)| Observed::new(series, dates)).collect())
}

/// The light members of auto, with events or without.
fn walk(series: &Series, events: Option<EffectsOf<'_>>, plan: Plan) -> Walk {
    match events {
        Some(events) => auto::walk_with_events(&auto::LIGHT, series, events, plan),
        None => auto::walk(&auto::LIGHT, series, &NoRegressors, plan),
    }
}

/// The summed error of the median in the hours `from..to`, from the last midnight before.
fn error(series: &Series, events: Option<EffectsOf<'_>>, from: i64, to: i64) -> f64 {
    let origin = from.div_euclid(DAY as i64) * DAY as i64;
    let plan = Plan { first: origin - 30 * DAY as i64, last: origin, step: 6, refit: WEEK, horizon: 2 * DAY };
    let said = Scenarios::with_events(series, &walk(series, events, plan), origin, events);
    let hours = (origin..).take(plan.horizon).enumerate().filter(|(_, hour)| (from..to).contains(hour));
    hours.map(|(lead, hour)| (said.quantile(lead, 0.5) - to_load(series.at(hour))).abs()).sum()
}

#[test]
fn the_first_promotion_of_an_entity_is_forecast_from_those_of_others() {
    let shops = shops(1);
    let all: Vec<Series> = shops.iter().map(series).collect();
    let effects = learnt(&shops, &all, |event| Some(event.clone()));
    let (mut with, mut without, mut count) = (0.0, 0.0, 0);
    for (index, shop) in shops.iter().enumerate() {
        let first = &shop.promotions[0];
        // When three others have had one.
        let before = shops.iter().filter(|other| other.promotions[0].to < first.from - DAY as i64);
        if before.count() >= 3 {
            with += error(&all[index], Some(effects.of(index)), first.from, first.to);
            without += error(&all[index], None, first.from, first.to);
            count += 1;
        }
    }
    assert!(count >= 20, "{count} first promotions");
    assert!(
        with <= 0.5 * without,
        "{with:.0} with events, {without:.0} without, in {count} first promotions"
    );
}

#[test]
fn a_promotion_does_not_echo_the_day_after_or_the_week_after_whatever_the_method() {
    let shops = shops(2);
    let all: Vec<Series> = shops.iter().map(series).collect();
    let effects = learnt(&shops, &all, |event| Some(event.clone()));
    let methods: [&dyn Model; 7] = [
        &SeasonalNaive::DAILY,
        &Climatology::LAST_WEEK,
        &Climatology::FADING,
        &DoubleSeasonal,
        &Autoregression,
        &Arima::DEFAULT,
        &Prophet::DEFAULT,
    ];
    const SHOPS: usize = 12;
    for method in methods {
        // Of the methods that look back one day, or over days, each is asked the day after and a week after.
        for late in [DAY as i64, WEEK as i64] {
            let (mut echo, mut left) = (0.0, 0.0);
            let ended = |shop: &Shop| shop.promotions[0].to < START + HOURS - 2 * WEEK as i64;
            for (index, shop) in shops.iter().enumerate().filter(|shop| ended(shop.1)).take(SHOPS) {
                let last =
                    shop.promotions.iter().rfind(|event| event.to < START + HOURS - WEEK as i64).unwrap();
                let origin = last.from + late;
                let plan = Plan { first: origin, last: origin, step: 6, refit: WEEK, horizon: 10 };
                let plain = Walk::run(method, &all[index], &NoRegressors, plan);
                let with = Walk::run(&Adjusted(method), &all[index], &effects.of(index), plan);
                let truth: Vec<f32> = (origin..origin + 10).map(|hour| all[index].at(hour)).collect();
                let bias = |walk: &Walk| {
                    let path = walk.path(origin).unwrap();
                    path.iter().zip(&truth).map(|(said, was)| f64::from(said - was)).sum::<f64>() / 10.0
                };
                echo += bias(&plain) / SHOPS as f64;
                left += bias(&with) / SHOPS as f64;
            }
            let is_fooled = echo > 0.2;
            assert!(
                left.abs() < 0.15,
                "{} {late} h later: {left:.2} too high, {echo:.2} without",
                method.name()
            );
            assert!(
                !is_fooled || left < 0.4 * echo,
                "{} {late} h later: {left:.2} of {echo:.2}",
                method.name()
            );
        }
    }
}

#[test]
fn a_peak_is_likely_in_a_promotion_that_is_ahead_and_not_on_a_day_after_one() {
    let shops = shops(5);
    let all: Vec<Series> = shops.iter().map(series).collect();
    let effects = learnt(&shops, &all, |event| Some(event.clone()));
    let question = |limit| Question::new(limit, 2, 7).unwrap();
    let (mut ahead, mut after, mut count) = ([0.0; 2], [0.0; 2], 0.0);
    for (index, shop) in shops.iter().enumerate() {
        let Some(event) = shop.promotions.get(1).filter(|event| event.to + 40 < START + HOURS) else {
            continue;
        };
        // What ordinary days never had, and a promotion does.
        let ordinary = &shop.loads[..30 * DAY];
        let limit = 1.3 * ordinary.iter().copied().fold(0.0, f64::max);
        for (sums, origin) in [(&mut ahead, event.from - 1), (&mut after, event.from - 1 + DAY as i64)] {
            let plan = Plan { first: origin - 30 * 24, last: origin, step: 6, refit: WEEK, horizon: 7 };
            let of = effects.of(index);
            for (sum, events) in sums.iter_mut().zip([None, Some(of)]) {
                let walk = match events {
                    Some(of) => Walk::run(&Adjusted(&Autoregression), &all[index], &of, plan),
                    None => Walk::run(&Autoregression, &all[index], &NoRegressors, plan),
                };
                let asked = Asked { series: &all[index], walk: &walk, events };
                *sum += rolling(&[asked], &question(limit), &[origin])[0][0];
            }
        }
        count += 1.0;
    }
    let [ahead, after] = [ahead, after].map(|sums| sums.map(|sum| sum / count));
    assert!(count >= 10.0 && ahead[1] > 0.5 && ahead[1] > 2.0 * ahead[0], "ahead: {ahead:?}");
    assert!(after[1] < 0.2 && after[1] < after[0], "after: {after:?}");
}

#[test]
fn what_is_announced_later_changes_nothing_before_and_something_after() {
    let shops = shops(3);
    let all: Vec<Series> = shops.iter().map(series).collect();
    let origin = START + 55 * 24;
    let known = learnt(&shops, &all, |event| (event.announced <= origin).then(|| event.clone()));
    let all_known = learnt(&shops, &all, |event| Some(event.clone()));
    let late = learnt(&shops, &all, |event| {
        let announced = if event.announced <= origin { event.announced } else { origin + 1 };
        Some(Event { announced, ..event.clone() })
    });
    for entity in 0..shops.len() {
        for hour in START..START + HOURS {
            let said = known.of(entity).effect(hour, origin).to_bits();
            assert_eq!(
                said,
                all_known.of(entity).effect(hour, origin).to_bits(),
                "entity {entity}, hour {hour}"
            );
            assert_eq!(said, late.of(entity).effect(hour, origin).to_bits(), "entity {entity}, hour {hour}");
        }
    }
    let later = |effects: &Effects| -> f32 {
        (0..shops.len()).map(|entity| effects.of(entity).effect(START + 66 * 24, origin + 30)).sum()
    };
    assert!(later(&late) != later(&known), "an announcement changes what is said after it");
}

#[test]
fn an_entity_of_no_event_is_forecast_as_without_a_calendar() {
    let shops = shops(4);
    let all: Vec<Series> = shops.iter().map(series).collect();
    let effects = learnt(&shops, &all, |event| (event.entities != "shop:5").then(|| event.clone()));
    let plan = Plan { first: START + 40 * 24, last: START + 45 * 24, step: 6, refit: WEEK, horizon: 24 };
    for method in CHEAP {
        let with = Walk::run(&Adjusted(method), &all[5], &effects.of(5), plan);
        assert_eq!(with, Walk::run(method, &all[5], &NoRegressors, plan), "{}", method.name());
    }
}
