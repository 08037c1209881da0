// Words of PEFT, TRL, Unsloth, axolotl, mlx-lm, torchtune, ms-swift and their like for LLaMA-Factory's keys. Called by apply_settings, and
// by commands that look at keys themselves.
#pragma once
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "loraine/core/describe.h"

namespace loraine {

// A word for a key: of one key it is taken as that; of several the hint says what each is, and the word is refused; of none it is refused
// with the hint.
struct OtherWord {
  std::string word;
  std::vector<std::string> keys;
  std::string hint = {};
};
const std::vector<OtherWord>& other_words();

// A word whose yes, or no, is another key's value. A side without a key says nothing.
struct OtherSwitch {
  struct Side {
    std::string key, value;  // the value as JSON
  };
  std::string word;
  Side yes, no = {};
};
const std::vector<OtherSwitch>& other_switches();

// finetuning_type in words that are LoRA with one more setting, which counts where it is not given itself.
struct OtherKind {
  std::string kind, key, value;  // the value as JSON
};
const std::vector<OtherKind>& other_kinds();

// The key that a word is taken as, whatever its value; the word itself where it is a key, a switch or unclear.
std::string own_key(const std::string& word);

// The settings under LLaMA-Factory's keys. `extra`: options of one command, whose names are no words of others. Adds a line to `notes` for
// each word taken as another. Throws Error::usage for an unclear one. What is under LLaMA-Factory's keys already stays as it is.
std::vector<Setting> in_own_words(std::span<const Setting> settings, std::span<const Option> extra, std::vector<std::string>& notes);

}  // namespace loraine
