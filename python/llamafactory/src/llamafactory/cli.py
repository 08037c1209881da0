"""llamafactory-cli and lmf: the program loraine under these names."""
import os
import shutil
import sys


def main():
    program = os.environ.get("LORAINE_PROGRAM") or shutil.which("loraine")
    if not program:
        sys.exit("the program loraine is not on the PATH: build it (./dev build) and install it (cmake --install build), or name it in LORAINE_PROGRAM")
    os.execv(program, [os.path.basename(sys.argv[0]) or "llamafactory-cli", *sys.argv[1:]])


if __name__ == "__main__":
    main()
