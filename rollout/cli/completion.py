"""``p12 completion bash|zsh|fish``: print what completes its words, made of the tables of verbs."""

from collections.abc import Iterator, Sequence

from checks.__main__ import CHECKS
from rollout.cli.engineer_verbs import INVENTORY, VERBS
from rollout.cli.verb_table import Misspelt, Option, flags_of
from rollout.text import did_you_mean

# Both shells read this; what is more special comes first, and the first that fits is taken.
CASES = """    case $previous in
{values}
    *) case $typed in
{words}
    esac ;;
    esac"""
CASE = "    {}) accepted='{}' ;;"
FISH_CASE = "    case {}\n        printf '%s\\n' {}"
SCRIPTS = {
    "bash": """# source <(./p12 completion bash)
_p12() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} accepted=''
    local typed="${COMP_WORDS[*]:1:COMP_CWORD-1} "
    if [[ $current == = ]]; then current=''; fi
    if [[ $previous == = ]]; then previous=${COMP_WORDS[COMP_CWORD-2]}; fi
{cases}
    COMPREPLY=($(compgen -W "$accepted" -- "$current"))
}
complete -o default -F _p12 p12 ./p12
""",
    "zsh": """#compdef p12
# source <(./p12 completion zsh)
_p12() {
    local previous=$words[CURRENT-1] typed="${(j: :)words[2,CURRENT-1]} " accepted=''
{cases}
    compadd -- ${=accepted}
}
compdef _p12 p12
""",
    "fish": """# ./p12 completion fish | source
function __p12_accepted
    set -l words (commandline -opc)
    set -l typed "$words[2..-1] "
    switch $words[-1]
{values}
    case '*'
        switch $typed
{words}
        end
    end
end
complete -c p12 -f -a '(__p12_accepted)'
""",
}


def script(shell: str, sites: Sequence[str]) -> str:
    """Return what a shell reads once.

    :raises Misspelt: it is none of the three.
    """
    if shell not in SCRIPTS:
        raise Misspelt(f"{shell!r} is no shell.{did_you_mean(shell, SCRIPTS)}", "./p12 completion bash")
    case = FISH_CASE if shell == "fish" else CASE
    star = "'{}*'" if shell == "fish" else "'{}'*"
    parts = {
        "values": "\n".join(case.format(name, " ".join(words)) for name, words in _values(sites)),
        "words": "\n".join(case.format(star.format(typed), " ".join(words)) for typed, words in _words()),
    }
    parts["cases"] = CASES.format(**parts)
    text = SCRIPTS[shell]
    for name in ("cases", "values", "words"):
        text = text.replace(f"{{{name}}}", parts[name])
    return text


def _values(sites: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """What each option with a few values takes."""
    options = {name: accepted for verb in VERBS.values() for name, accepted in _chosen(verb.options)}
    yield from options.items()
    for name in flags_of([INVENTORY]):
        yield name, sites


def _chosen(options: Sequence[Option]) -> Iterator[tuple[str, Sequence[str]]]:
    return ((name, settings["choices"]) for name, settings in options if "choices" in settings)


def _words() -> Iterator[tuple[str, Sequence[str]]]:
    """What may follow the words typed so far, longest first."""
    follow: dict[str, list[str]] = {"check ": list(CHECKS), "completion ": list(SCRIPTS)}
    for verb in VERBS.values():
        typed = ""
        for word in verb.name.split():
            accepted = follow.setdefault(typed, [])
            accepted += [word] if word not in accepted else []
            typed += f"{word} "
        follow[typed] = [*follow.get(typed, []), *flags_of(verb.options)]
    return iter(sorted(follow.items(), key=lambda entry: -len(entry[0])))
