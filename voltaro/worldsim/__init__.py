"""A world in a box: our own code on a real database, between simulated chargers, riders and Razorpay, on a clock that is not real.

One seed is one world: it lives the same life every time. Faults are on for a while, then off; in the end an auditor, who knows
what the cars took and the riders paid and does not look at our code, says what is not as it must be.

    manage.py worldsim run --seeds 1..50
    manage.py worldsim replay --seed 7
"""
