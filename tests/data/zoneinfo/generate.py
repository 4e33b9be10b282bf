#!/usr/bin/env python3
"""Makes the TZif files in this folder and expected.txt beside them; needs tzdata, zic and GNU date.

The files come from tzdata, which is in the public domain. Names ending in .fat list every change until 2037.
Each line of expected.txt is asked of Python's zoneinfo and of `date`, which must agree.
"""
import datetime
import os
import subprocess
import tempfile
import zoneinfo

SLIM = """Africa/Casablanca America/New_York America/St_Johns Asia/Kathmandu Asia/Kolkata Australia/Lord_Howe
Europe/Berlin Europe/Dublin Pacific/Apia Pacific/Chatham""".split()
FAT = ["America/New_York", "Asia/Hebron"]
SOURCE = "/usr/share/zoneinfo/tzdata.zi"
# Not here: summer time all year, which glibc interrupts for hours at the turn of the year.
POSIX = ["CET-1CEST,M3.5.0,M10.5.0/3", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "EST5EDT", "NZST-12NZDT,J272/2:45,94/3",
         "<+1030>-10:30:30"]

# Years before the first change, ordinary ones, around the end of 32-bit time, and far ahead.
EVERYWHERE = [-5000000000, -2500000000, -1000000000, -1, 0, 951782400, 1795342514, 2147483647, 2147483648,
              4107542399, 4107542400, 13574563200, 253402214400]

here = os.path.dirname(os.path.abspath(__file__))


def compile_to(directory, style, names):
    subprocess.run(["zic", "-b", style, "-d", directory, SOURCE], check=True, stderr=subprocess.DEVNULL)
    for name in names:
        target = os.path.join(here, name.replace("/", "_") + (".fat" if style == "fat" else ""))
        with open(os.path.join(directory, name), "rb") as file, open(target, "wb") as out:
            out.write(file.read())


def gnu(tz, instant):
    out = subprocess.run(["date", "-d", f"@{instant}", "+%Y %-m %-d %-H %-M %-S %w %z %::z %Z"], check=True,
                         env={"TZ": tz, "LC_ALL": "C"}, capture_output=True, text=True).stdout.split()
    sign = -1 if out[8][0] == "-" else 1
    hours, minutes, seconds = (int(part) for part in out[8][1:].split(":"))
    year = str(int(out[0]))
    return " ".join([year, *out[1:7], str(sign * (hours * 3600 + minutes * 60 + seconds)), out[9]])


def python(zone, instant):
    utc = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=instant)
    try:
        t = utc.astimezone(zone)
    except OverflowError:
        return None
    return " ".join(str(part) for part in (t.year, t.month, t.day, t.hour, t.minute, t.second, t.isoweekday() % 7,
                                           int(t.utcoffset().total_seconds()), t.tzname()))


def changes(tz, first, last):
    """Every change of local time between two instants, found by looking once a week and then halving."""
    step, before = 7 * 86400, first
    zone = zoneinfo.ZoneInfo(tz)
    key = lambda instant: python(zone, instant).split()[7:]
    while before < last:
        after = before + step
        low, high = before, after
        if key(low) != key(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if key(middle) == key(low) else (low, middle)
            yield high
        before = after


def main():
    for style, names in (("slim", SLIM), ("fat", FAT)):
        with tempfile.TemporaryDirectory() as directory:
            compile_to(directory, style, names)
    with open(os.path.join(here, "expected.txt"), "w") as out:
        version = open(SOURCE).readline().strip("# \n")
        print(f"# tzdata {version}: zone, Unix seconds, local date and time, days since Sunday, offset, name", file=out)
        for tz in sorted({*SLIM, *FAT}):
            instants = set(EVERYWHERE)
            spans = [(1766000000, 1804000000), (3000000000, 3040000000)]  # 2026; 2065 and a bit
            if tz == "Pacific/Apia":
                spans.append((1325000000, 1326000000))  # one day is missing: 2011-12-30
            for first, last in spans:
                for change in changes(tz, first, last):
                    instants |= {change - 1, change}
            for instant in sorted(instants):
                line = gnu(tz, instant)
                other = python(zoneinfo.ZoneInfo(tz), instant)
                assert other in (None, line), (tz, instant, line, other)
                print(tz, instant, line, file=out)
        for tz in POSIX:
            for instant in [0, 951782400, 951868800, 1774746000, 1774745999, 1772953199, 1772953200, 1790517600,
                            1792886399, 1792886400, 1795342514, 1798761600 - 1, 1798761600, 4107542400]:
                print(tz, instant, gnu(tz, instant), file=out)


main()
