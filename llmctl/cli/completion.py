"""`llmctl completion`: what a shell has to be told once."""

from __future__ import annotations

from typing import Annotated

import typer

from . import context
from .command import single
from .errors import UsageMistake

app, command = single("completion")

# bash cuts words at @ = : too; what stands before the last of them stays on the line.
_BASH = """\
_llmctl() {
    local line="${COMP_LINE:0:$COMP_POINT}" words IFS=$' \\t\\n'
    read -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current="${words[${#words[@]}-1]}"
    local head="${current%"${current##*[@=:]}"}"
    IFS=$'\\n'
    COMPREPLY=($(_LLMCTL_COMPLETE=1 "${words[0]}" "${words[@]:1}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$head"}")
    COMPREPLY=("${COMPREPLY[@]// /\\\\ }")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -F _llmctl llmctl
"""
_ZSH = """\
#compdef llmctl
_llmctl() {
    local -a found
    found=("${(@f)$(_LLMCTL_COMPLETE=1 ${words[1]} "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -- ${found:#*/}
    compadd -S '' -- ${(M)found:#*/}
}
compdef _llmctl llmctl
"""
_FISH = """\
function __llmctl
    set -l words (commandline -opc) (commandline -ct)
    _LLMCTL_COMPLETE=1 $words[1] $words[2..-1] 2>/dev/null
end
complete -c llmctl -f -a '(__llmctl)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@command
def completion(
    ctx: typer.Context, shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]
) -> None:
    """Print what makes a shell complete commands, flags, and the names in the database.

    source <(llmctl completion bash)        in ~/.bashrc
    source <(llmctl completion zsh)         in ~/.zshrc, after compinit
    llmctl completion fish | source         in ~/.config/fish/config.fish
    """
    if shell not in SCRIPTS:
        raise UsageMistake(f"no completion for {shell!r}", hint=f"write one of {', '.join(SCRIPTS)}")
    context.of(ctx).out.line(SCRIPTS[shell].rstrip())
