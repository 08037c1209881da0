// LLaMA-Factory's named templates as data: one row each, as a reader can check them against it. Used by templates.cpp alone.
#pragma once
#include <array>
#include <span>
#include <string_view>

#include "loraine/data/templates/templates.h"

namespace loraine {

struct SlotData {
  SlotKind kind = SlotKind::none;
  std::string_view text = {};
};
using Slots = std::array<SlotData, 5>;

struct TemplateData {
  std::string_view name;
  TemplateClass kind = TemplateClass::plain;
  Slots prefix = {}, system = {}, user = {}, assistant = {};
  Slots function = {}, observation = {};  // left out: as assistant, as user
  std::string_view tool_format = "default";
  std::string_view default_system = {};
  std::array<std::string_view, 3> stop_words = {};
  std::array<std::string_view, 2> thought = {"<think>\n", "\n</think>\n\n"};  // around a thought, of the reasoning class
  bool empty_thought_closes_only = false;
  bool efficient_eos = false, replace_eos = false, replaces_jinja = false;
};

std::span<const TemplateData> template_table();  // sorted by name

}  // namespace loraine
