// Completion of words in a shell.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loraine/cli/commands.h"
#include "loraine/cli/reference/reference.h"
#include "loraine/core/error.h"
#include "loraine/eval/evaluate.h"
#include "loraine/serve/settings.h"
#include "loraine/train/config/config.h"

namespace loraine {
namespace {

// A word in single quotes.
std::string quoted(const std::string& text, const char* quote) {
  std::string out;
  for (const char c : text) out += c == '\'' ? quote : std::string(1, c);
  return "'" + out + "'";
}

// @NAMES@: the commands, with spaces between. bash cuts key=value into three words.
constexpr const char* kBash =
    R"bash(# bash completion of loraine: put this into /etc/bash_completion.d/loraine, or: source <(loraine help --completion bash)
_loraine() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} key='' name values
  COMPREPLY=()
  if ((COMP_CWORD == 1)) || { ((COMP_CWORD == 2)) && [[ $command == help ]]; }; then
    COMPREPLY=($(compgen -W '@NAMES@' -- "$word"))
    return
  fi
  if [[ $word == '=' ]]; then word='' key=$before
  elif [[ $before == '=' ]]; then key=${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $before == --* ]]; then key=$before
  fi
  key=${key#--} key=${key//-/_}
  local options
  options=$("$1" help "$command" --words </dev/null 2>/dev/null)
  if [[ -n $key ]]; then
    while IFS=$'\t' read -r name values _; do
      if [[ $name == "$key" && $values != - ]]; then COMPREPLY=($(compgen -W "$values" -- "$word")); return; fi
    done <<<"${options//$'\t\t'/$'\t-\t'}"
    compopt -o filenames
    COMPREPLY=($(compgen -f -- "$word"))
    return
  fi
  if [[ $word == --* ]]; then
    COMPREPLY=($(compgen -W "$(cut -f1 <<<"$options" | sed 's/^/--/')" -- "$word"))
    return
  fi
  COMPREPLY=($(compgen -W "$(cut -f1 <<<"$options" | sed 's/$/=/')" -- "$word"))
  if ((${#COMPREPLY[@]})); then compopt -o nospace; else compopt -o filenames; fi
  COMPREPLY+=($(compgen -f -- "$word"))
}
complete -F _loraine loraine
)bash";

// @COMMANDS@: 'name:summary' lines.
constexpr const char* kZsh = R"zsh(#compdef loraine
# zsh completion of loraine: put this into a folder of $fpath under the name _loraine
_loraine() {
  local -a commands keys settings values
  local line name choices meaning before=${words[CURRENT - 1]} now=${words[CURRENT]}
  commands=(
@COMMANDS@  )
  if (( CURRENT == 2 )) || { (( CURRENT == 3 )) && [[ $words[2] == help ]] }; then
    _describe command commands
    return
  fi
  for line in "${(@f)$($words[1] help $words[2] --words </dev/null 2>/dev/null)}"; do
    name=${line%%$'\t'*} meaning=${line##*$'\t'} choices=${${line#*$'\t'}%%$'\t'*}
    keys+=("--$name:$meaning") settings+=("$name=:$meaning")
    if [[ ${before//-/_} == "__$name" || $now == (--|)$name=* ]]; then values=(${=choices}); fi
  done
  if [[ $now == *=* ]]; then compset -P '*='; fi
  if (( $#values )); then
    compadd -a values
  elif [[ $now == *=* || $before == --* ]]; then
    _files
  elif [[ $now == -* ]]; then
    _describe option keys
  else
    _describe setting settings -S ''
    _files -g '*.(yaml|yml|json)'
  fi
}
_loraine "$@"
)zsh";

// fish completes words that begin with - by options that are declared one by one.
constexpr const char* kFish = R"fish(# fish completion of loraine: put this into ~/.config/fish/completions/loraine.fish
function __loraine_settings
    set -l words (commandline -opc)
    test (count $words) -gt 1; or return
    loraine help $words[2] --words </dev/null 2>/dev/null | while read -d \t -l name values meaning
        printf '%s=\t%s\n' $name $meaning
        for value in (string split -n ' ' -- $values)
            printf '%s=%s\n' $name $value
        end
    end
end
@COMMANDS@complete -c loraine -n 'test (count (commandline -opc)) -gt 1' -a '(__loraine_settings)'
)fish";

// The values that a setting is one of.
std::string values_of(const Option& option) {
  return is_switch(option) ? "true false" : fmt::format("{}", fmt::join(option.limits.choices, " "));
}

std::string fish_options(std::span<const Option> options) {
  std::string text;
  for (const Option& option : options) {
    const std::string values = values_of(option);
    text += fmt::format("complete -c loraine -n 'test (count (commandline -opc)) -gt 1' -l {} -r {}-d {}\n", option.name,
                        values.empty() ? "" : fmt::format("-f -a {} ", quoted(values, "\\'")), quoted(option.help, "\\'"));
  }
  return text;
}

std::string put_in(std::string text, const std::string& place, const std::string& what) {
  return text.replace(text.find(place), place.size(), what);
}

}  // namespace

std::string completion_words(std::span<const Option> options) {
  std::string out;
  for (const Option& option : options) out += fmt::format("{}\t{}\t{}\n", option.name, values_of(option), option.help);
  return out;
}

std::string completion_script(const std::string& shell) {
  std::string names, zsh, fish;
  for (const Command& command : commands()) {
    names += (names.empty() ? "" : " ") + std::string(command.name);
    zsh += "    " + quoted(fmt::format("{}:{}", command.name, command.summary), "'\\''") + "\n";
    fish += fmt::format("complete -c loraine -n 'test (count (commandline -opc)) -eq 1' -f -a {} -d {}\n", command.name,
                        quoted(command.summary, "\\'"));
  }
  TrainConfig config;
  EvalConfig eval;
  ServeConfig server;
  fish += fish_options(options_of(config)) + fish_options(options_of(eval)) + fish_options(options_of(server));
  if (shell == "bash") return put_in(kBash, "@NAMES@", names);
  if (shell == "zsh") return put_in(kZsh, "@COMMANDS@", zsh);
  if (shell == "fish") return put_in(kFish, "@COMMANDS@", fish);
  throw Error(ErrorKind::usage, fmt::format("help --completion: {} is not a shell that it knows", shell), "bash, zsh or fish");
}

}  // namespace loraine
