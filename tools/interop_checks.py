"""What the scripts that run real clients and libraries beside the program share: checks that are counted and told, one line each."""

failures = 0


def check(what, good, shown=""):
    global failures
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {what}{'' if good else f': {shown}'}", flush=True)


def raises(what, kind, call, **wanted):
    """wanted: attributes of the error, like status_code or param."""
    try:
        call()
    except kind as error:
        return check(what, all(getattr(error, name) == value for name, value in wanted.items()), error)
    except Exception as error:
        return check(what, False, repr(error))
    check(what, False, "nothing was raised")
