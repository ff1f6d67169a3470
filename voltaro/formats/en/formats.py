"""Dates as they are written in India, and with seconds where a log is read."""

DATE_FORMAT = SHORT_DATE_FORMAT = "j M Y"
DATETIME_FORMAT = "j M Y, H:i:s"
SHORT_DATETIME_FORMAT = "j M Y, H:i"
TIME_FORMAT = "H:i:s"
MONTH_DAY_FORMAT = "j F"
FIRST_DAY_OF_WEEK = 1
