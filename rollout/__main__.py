"""The p12 command: ``p12 VERB …`` for engineers, ``p12 host TARGET VERB …`` on hosts."""

import sys


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["host"]:
        from rollout.cli import host

        return host.main(arguments[1:])
    from rollout.cli import engineer

    return engineer.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
