"""How calls fare: counts and times, in memory."""
