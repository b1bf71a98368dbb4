"""The constants of the policy: each with what it means and where it comes from. Nothing here is set by a user.

"§" refers to the project's autoscaling design; "measured" means by the replay of this repository on its tuning loads (`ramp5`, `conv×3`,
`code×1`, days 1 to 7 of the 14-day series) and never on the days it is reported for.
"""

from __future__ import annotations

# --- readings -------------------------------------------------------------------------------------------------------------------------
STALE_S = 90.0  # older readings are dropped, by their own stamp (§4.6)
LATE = 1.5  # intervals of a source that reads less often than the tick, after which its last reading is no longer a fresh one
OWN_VALUE_S = 60.0  # a replica that is not read counts with its own last rate for so long (§4.6)
FRESH_SHARE = 0.5  # of the serving replicas must be read before anything goes down (§4.6)
GAP_TICKS = 3.0  # a longer pause between two ticks is a gap or a clock step: rates over it are not believed
MIX_S = 300.0  # decay of the means per request, s of completions; an all-time mean cost 9 % of all hours on `ramp5` (§4.2b)
BIN_S = 10.0  # width of the bins of the backtest, s (§4.2b)

# --- level, volatility, band (§4.2b) ----------------------------------------------------------------------------------------------------
LEVEL_S = 180.0  # decay of the level
CALM_S = 300.0  # decay of the level that does not follow steps
STEP_S = 20.0  # decay of the fast level that finds steps
STEP_SIGMAS = 3.4  # a step is a fast level that is so many of its own standard deviations away
NOISE_MEAN_S = 60.0  # the mean that the noise is measured against
NOISE_S = 1100.0  # decay of the variance
CLIP_SIGMAS = 4.0  # innovations beyond are clipped
LEAST_NOISE = 0.05  # of the slow level: a step down leaves so much deviation at least (`conv×3` has 0.12)
ASK_SIGMAS = 1.1  # grow when level + this > capacity
GIVE_SIGMAS = 2.0  # to level + this; shrink when the highest of it within the window fits fewer (§4.2b had 2.1; measured: 1 % of the hours)

# --- horizon ----------------------------------------------------------------------------------------------------------------------------
DEFAULT_TTFT_S = 2.0  # stands in for a goal that is not set
DEFAULT_COLD_START_S = 240.0  # of options never measured: the cap of the horizon (§4.2)
WINDOW_S = 95.0  # scale-down window (§4.2b); 180 s or 1.5 horizons cost 2 to 4 % of the hours of `ramp5` and save no event
PART = 0.5  # where it stands still, less than this of what the window will let go soon is not worth an event yet
FIRST_S = 180.0  # the first window, and the one after an outage, is longer (§4.2): the longer of this and
FIRST_HORIZONS = 1.5  # so many horizons

# --- requests ---------------------------------------------------------------------------------------------------------------------------
PRIOR_REQUESTS = 5.0  # weight of earlier means against requests seen
FIRST_NOISE = 0.25  # standard deviation over level of a load that nobody has seen: that of 10-s work of `conv×3`, measured
FIRST_NOISE_S = 60.0  # what that guess weighs

# --- floor by backtest (§4.2b.4) --------------------------------------------------------------------------------------------------------
FLOOR_BINS = 360  # an hour
FLOOR_MEAN_BINS = 60  # ten minutes
FLOOR_LEVEL_S = 600.0  # decay of the level that the past is scaled to; 1,800 s kept the peak of `ramp5` for half an hour after it
FLOOR_HALF_LIFE_S = 1800.0
FLOOR_STEPS = 12  # of bisection: 1/4096 of the largest bin
FLOOR_SCALE = 0.6  # of a load that is followed, whose head-room is the band; §4.2b had 0.9, from before standing still was tried
FLOOR_EVERY_S = 60.0  # it is worked out anew so often, s of ticks; in
FLOOR_YOUNG_BINS = 60  # the first bins at every tick: the first burst tells more than all before it
THIN_MINUTES = 1.0  # thin = this / (this + minutes seen)
THIN_MORE = 0.5  # floor x (1 + this x thin)
THIN_BURST = 6.0  # of a load of bursts, what exceeds the mean is taken so much larger at first,
THIN_BURST_MINUTES = 1.5  # for so long: the largest burst of `code×1` is eight times the first

# --- trials of following and standing still on the past ---------------------------------------------------------------------------------
TRIAL_FIRST = 0.25  # work/s, least capacity of the grid
TRIAL_STEP = 1.08  # ratio of the grid: a floor is interpolated between values 8 % apart
TRIAL_GRID = 128  # up to 4,400 work/s
TRIAL_HALF_LIFE_S = 3.0 * 3600.0  # "long memory": hours, so that a burst pattern outlives a quiet hour
TRIAL_MARGIN = 1.15  # the other family must be cheaper by this: at less, `conv×3` changed over and back and cost the same
BURSTY = 0.5  # only loads whose 10-s work varies by more than this over its mean, and more than chance explains, may stand still: a steady
BURSTY_STAYS = (
    0.35  # one is served alike by both, and then caught by its next trend (`conv×3` 0.2, `ramp5` 0.6 with its ramp, `code×1` 1.7)
)
SIZES = 2.0  # mean square over squared mean of the work of a request, as of exponential ones (`conv×3` 1.4, `ramp5` 1.5, `code×1` 1.9)
BIN_BURSTS = (
    1.15  # on that floor, for bursts inside of a bin: `code×1` needs 8.3 by 1-s bins and 7.6 by 10-s bins; it is the band, too: the
)
# floor is asked for when it exceeds what runs without this (measured: 0.17 h of `code×1`, and two events)
YOUNG_BINS = 30  # so long the floor by backtest counts beside the one by trials, which has seen too little

# --- capacity, backlog, guard (§4.1, §4.2) ----------------------------------------------------------------------------------------------
KAPPA_S = 600.0  # decay of the learned correction, s in which requests waited
KAPPA_QUEUE = 0.5  # so much of what a replica does between two readings must wait at both
KAPPA_HALF_LIFE_S = 6.0 * 3600.0  # without evidence it returns to 1
KAPPA_LOW, KAPPA_HIGH = 0.5, 1.5
CLEAR_S = 60.0  # a backlog is to be cleared in so long
GUARD_SATURATION = 0.9
GUARD_HOT_S = 30.0
GUARD_DECAY_S = 60.0  # decay of the observed latencies
GUARD_SEEN = 20.0  # fewer observations say nothing of a percentile
GUARD_SIGMAS = 3.0  # so many standard deviations more late requests than allowed are no chance
GUARD_KAPPA = 0.98  # correction at a guard that the model disagrees with
KV_FULL = 0.9  # share of the KV cache that those who stay may have to hold

# --- safety (§4.6) ----------------------------------------------------------------------------------------------------------------------
FAILURES = 3  # polls without a fallback rule: as the API's default
RECOVERY_JUMP = 2.0  # after an outage capacity at most doubles within a window: stops the overshoot of 3c
IDLE_LEAST_S = 600.0
VANISHED_SIGMAS = 4.0  # a load of so many of its standard deviations does not end between two polls; where it seems to, the source may be
VANISHED_S = 600.0  # frozen, and nothing goes down for so long (`conv×3`, frozen at idle for ten minutes: 55 points of attainment)
IDLE_HORIZONS = 3.0
PATH_FRESH_S = 60.0  # who wakes a model was read within this time, or nobody goes to sleep
HOUR_S = 3600.0
AWAKE = 0.05  # work/s at this time of earlier days, above which a model does not go to sleep
OLD_BAND = 0.92  # share of the utilisation that a resize aims at, where FleetPolicy states one (§4.2.6)
WORTH = 0.05  # learned state is written when something moved by more than this
