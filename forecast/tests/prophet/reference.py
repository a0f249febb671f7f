"""Makes reference.csv: a series, and what the paper's own program (PyPI: prophet 1.5.0) forecasts of it.

Run: pip install prophet==1.5.0 && python reference.py > reference.csv
"""
import math
import sys

import pandas
from prophet import Prophet

FIRST_HOUR = 382_000
HISTORY, FUTURE = 35 * 24, 48


def noise():
    state = 1
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (state >> 33) / 2**31 - 0.5


rows = []
for index, uniform in zip(range(HISTORY + FUTURE), noise()):
    hour = FIRST_HOUR + index
    day, week = 2 * math.pi * hour / 24, 2 * math.pi * hour / 168
    event = 1 if (index // 24) % 9 == 4 else 0
    load = math.sin(index / 11) * 3 + 7
    trend = 4 + 0.002 * index - 0.004 * max(0, index - 300)
    value = trend + math.sin(day) + 0.4 * math.cos(2 * day) + 0.5 * math.sin(week) + 0.8 * event + 0.1 * load + uniform
    known = index < HISTORY and not 400 <= index < 430
    rows.append((hour, f"{value:.4f}" if known else "", event, f"{load:.4f}"))

frame = pandas.DataFrame(rows, columns=["hour", "value", "event", "load"])
frame["ds"] = pandas.to_datetime(frame["hour"] * 3600, unit="s")
frame["y"] = pandas.to_numeric(frame["value"])
frame["load"] = pandas.to_numeric(frame["load"])
model = Prophet(yearly_seasonality=False, weekly_seasonality=3, daily_seasonality=4)
model.add_regressor("event")
model.add_regressor("load")
model.fit(frame.iloc[:HISTORY].dropna(), iter=20_000)
frame["forecast"] = model.predict(frame)["yhat"].map("{:.4f}".format)
frame["load"] = frame["load"].map("{:.4f}".format)
frame[["hour", "value", "event", "load", "forecast"]].to_csv(sys.stdout, index=False)
