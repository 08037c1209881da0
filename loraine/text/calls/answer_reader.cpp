// See answer_reader.h.
#include "loraine/text/calls/answer_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr std::string_view kBlanks = " \n\t\r";

// Bytes at the end of the text that a word may begin with.
size_t begun(std::string_view text, std::string_view word) {
  for (size_t n = std::min(text.size(), word.size() - 1); n > 0; --n)
    if (word.starts_with(text.substr(text.size() - n))) return n;
  return 0;
}

}  // namespace

ThoughtMarks thought_marks(std::string_view name) {
  struct Known {
    std::string_view name;
    ThoughtMarks marks;
  };
  static const ThoughtMarks think{"<think>", "</think>"}, brackets{"[THINK]", "[/THINK]"}, seed{"<seed:think>", "</seed:think>"},
      channels{"<|channel|>analysis<|message|>", "<|end|>"}, gemma{"<|channel>thought\n", "<channel|>"};
  static const std::vector<Known> known{{"think", think},           {"mistral", brackets}, {"seed_oss", seed},     {"gpt_oss", channels},
                                        {"gemma4", gemma},          {"qwen3", think},      {"deepseek_r1", think}, {"deepseek_v3", think},
                                        {"glm45", think},           {"granite", think},    {"ernie45", think},     {"step3", think},
                                        {"openai_gptoss", channels}};
  std::string names;
  for (const Known& one : known) {
    if (one.name == name) return one.marks;
    names += fmt::format(", {}", one.name);
  }
  throw Error(ErrorKind::usage, fmt::format("reasoning_parser: `{}` is not known", name), "known: auto, none" + names);
}

std::optional<ThoughtMarks> thought_marks_of_template(std::string_view text) {
  const auto has = [&](std::string_view marker) { return text.find(marker) != std::string_view::npos; };
  if (has("<seed:think>")) return ThoughtMarks{"<seed:think>", "</seed:think>"};
  if (has("[THINK]")) return ThoughtMarks{"[THINK]", "[/THINK]"};
  if (has("<|channel|>analysis")) return ThoughtMarks{"<|channel|>analysis<|message|>", "<|end|>"};
  if (has("<|channel>thought")) return ThoughtMarks{"<|channel>thought\n", "<channel|>"};
  if (has("</think>")) return ThoughtMarks{"<think>", "</think>"};
  return std::nullopt;
}

bool begins_in_thought(const ThoughtMarks& marks, std::string_view prompt) {
  const size_t open = prompt.rfind(marks.open);
  return open != std::string_view::npos && prompt.find(marks.close, open + marks.open.size()) == std::string_view::npos &&
         prompt.find_first_not_of(kBlanks, open + marks.open.size()) == std::string_view::npos;
}

bool begins_behind_thought(const ThoughtMarks& marks, std::string_view prompt) {
  const size_t open = prompt.rfind(marks.open), close = prompt.rfind(marks.close);
  return open != std::string_view::npos && close != std::string_view::npos && open < close &&
         prompt.find_first_not_of(kBlanks, open + marks.open.size()) == close &&
         prompt.find_first_not_of(kBlanks, close + marks.close.size()) == std::string_view::npos;
}

AnswerReader::AnswerReader(Options options)
    : options_(std::move(options)),
      types_(options_.tools),
      stage_(!options_.thoughts    ? Stage::content
             : options_.in_thought ? Stage::thought
                                   : Stage::before_thought) {}

AnswerPart AnswerReader::push(std::string_view text) {
  buffer_ += text;
  AnswerPart out;
  read_thought(out, false);
  if (stage_ == Stage::content) read_content(out, false);
  return out;
}

AnswerPart AnswerReader::finish() {
  AnswerPart out;
  read_thought(out, true);
  stage_ = Stage::content;
  read_content(out, true);
  return out;
}

void AnswerReader::read_thought(AnswerPart& out, bool at_end) {
  if (stage_ == Stage::before_thought) {
    const size_t first = std::min(buffer_.find_first_not_of(kBlanks), buffer_.size());
    const std::string_view rest = std::string_view(buffer_).substr(first);
    if (rest.starts_with(options_.thoughts->open)) {
      buffer_.erase(0, first + options_.thoughts->open.size());
      stage_ = Stage::thought;
    } else if (at_end || !std::string_view(options_.thoughts->open).starts_with(rest)) {
      stage_ = Stage::content;
    }
  }
  if (stage_ == Stage::thought) {
    const auto think = [&](std::string_view text) {  // without the blanks at both ends
      const size_t last = text.find_last_not_of(kBlanks);
      if (last != std::string_view::npos) {
        const std::string_view head = text.substr(0, last + 1);
        if (some_) out.reasoning += blanks_;
        out.reasoning += some_ ? head : head.substr(head.find_first_not_of(kBlanks));
        blanks_.clear();
        some_ = true;
        text.remove_prefix(last + 1);
      }
      blanks_ += text;
    };
    const std::string& close = options_.thoughts->close;
    const size_t end = buffer_.find(close);
    if (end != std::string::npos) {
      think(std::string_view(buffer_).substr(0, end));
      buffer_.erase(0, end + close.size());
      stage_ = Stage::behind_thought;
    } else {
      const size_t held = at_end ? 0 : begun(buffer_, close);
      think(std::string_view(buffer_).substr(0, buffer_.size() - held));
      buffer_.erase(0, buffer_.size() - held);
    }
    if (at_end || stage_ == Stage::behind_thought) {
      blanks_.clear();
      some_ = false;
    }
  }
  if (stage_ == Stage::behind_thought) {
    buffer_.erase(0, std::min(buffer_.find_first_not_of(kBlanks), buffer_.size()));
    constexpr std::string_view kFinal = "<|start|>assistant<|channel|>final<|message|>";  // of channels: the answer begins
    const bool channels = options_.thoughts->close == "<|end|>";
    if (channels && buffer_.starts_with(kFinal)) buffer_.erase(0, kFinal.size());
    else if (!at_end && (buffer_.empty() || (channels && kFinal.starts_with(buffer_)))) return;
    stage_ = Stage::content;
  }
}

void AnswerReader::give(AnswerPart& out, std::string_view text) {
  const size_t last = text.find_last_not_of(kBlanks);
  if (last == std::string_view::npos) {
    blanks_ += text;
    return;
  }
  std::string_view head = text.substr(0, last + 1);
  if (after_call_) {  // blanks between calls and text say nothing
    blanks_.clear();
    head.remove_prefix(head.find_first_not_of(kBlanks));
  }
  out.content += blanks_;
  out.content += head;
  blanks_ = text.substr(last + 1);
  some_ = true;
  after_call_ = false;
}

void AnswerReader::read_content(AnswerPart& out, bool at_end) {
  const CallFormat* format = options_.calls;
  while (format) {
    if (!in_call_) {
      size_t first = std::string::npos;
      const auto may_begin = [&](size_t at) { first = std::min(first, at); };
      for (const std::string_view opener : format->openers) may_begin(buffer_.find(opener));
      const size_t letter = buffer_.find_first_not_of(kBlanks);
      if (letter != std::string::npos) {
        if (!some_ && !after_call_ && format->at_start.find(buffer_[letter]) != std::string_view::npos) may_begin(letter);
        if (after_call_ && format->after_call.find(buffer_[letter]) != std::string_view::npos) may_begin(letter);
      }
      if (first == std::string::npos) break;
      give(out, std::string_view(buffer_).substr(0, first));
      buffer_.erase(0, first);
      in_call_ = true;
      tried_ = 0;
      pieces_ = {};
    }
    if (options_.in_pieces) pieces_.read(*format, buffer_, out.pieces);
    // Only where something that may end a call came is it worth reading again; an action's marks end with anything else.
    if (!at_end && tried_ > 0 && format->form != CallForm::action && buffer_.find_first_of("}])>`", tried_) == std::string::npos &&
        tried_ + 4096 > buffer_.size())
      return;
    CallRead read = read_call(*format, buffer_, at_end, types_);
    if (read.outcome == CallRead::Outcome::more) {
      tried_ = buffer_.size();
      return;
    }
    in_call_ = false;
    const size_t told = pieces_.begun();
    pieces_ = {};
    if (read.outcome == CallRead::Outcome::none && told > 0) {  // it was cut: what there is of it was told
      buffer_.clear();
      after_call_ = true;
      break;
    }
    if (read.outcome == CallRead::Outcome::none) {
      size_t letter = 1;  // one character goes, the rest is looked at again
      while (letter < buffer_.size() && (static_cast<unsigned char>(buffer_[letter]) & 0xC0) == 0x80) ++letter;
      give(out, std::string_view(buffer_).substr(0, letter));
      buffer_.erase(0, letter);
      continue;
    }
    for (size_t i = told; i < read.calls.size(); ++i) out.calls.push_back(std::move(read.calls[i]));
    buffer_.erase(0, read.bytes);
    blanks_.clear();
    after_call_ = true;
  }
  size_t held = 0;
  if (format && !at_end)
    for (const std::string_view opener : format->openers) held = std::max(held, begun(buffer_, opener));
  give(out, std::string_view(buffer_).substr(0, buffer_.size() - held));
  buffer_.erase(0, buffer_.size() - held);
  if (at_end && !after_call_) out.content += blanks_;
  if (at_end) blanks_.clear();
}

}  // namespace loraine
