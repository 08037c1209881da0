"""The program with a terminal of its own, for what a person types and sees."""
import os
import pty
import select
import time

import tiny_model as tiny


class Terminal:
    def __init__(self, home, *arguments, **environment):
        self.seen = b""
        self.process, self.end = pty.fork()
        if self.process == 0:
            os.execve(tiny.program, [str(tiny.program), *map(str, arguments)], os.environ | {"HOME": str(home), "TERM": "vt100", "LC_ALL": "C"} | environment)

    def type(self, text):
        os.write(self.end, text)

    def wait_for(self, text, seconds=60):
        """What came up to `text`, which has to come."""
        stop = time.time() + seconds
        while text not in self.seen:
            if time.time() > stop:
                raise AssertionError(f"{text} did not come; there is {self.seen}")
            if select.select([self.end], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.end, 4096)
                except OSError:
                    raise AssertionError(f"the program ended before {text}; there is {self.seen}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def exit_code(self):
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        os.close(self.end)
        return code
