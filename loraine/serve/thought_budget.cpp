// See thought_budget.h.
#include "loraine/serve/thought_budget.h"

#include <algorithm>

#include "loraine/grammar/rules.h"

namespace loraine {
namespace {

// What a token adds to the text: of a special one its spelling.
std::string spelling(const grammar::Vocabulary& vocabulary, int32_t id) {
  if (id < 0 || static_cast<size_t>(id) >= vocabulary.size()) return {};
  std::string bytes(vocabulary.bytes(id));
  std::erase_if(bytes, [](char c) { return c == grammar::kSpecialOpen || c == grammar::kSpecialClose; });
  return bytes;
}

}  // namespace

ThoughtBudget::ThoughtBudget(std::shared_ptr<const ThoughtLimit> limit, std::shared_ptr<TokenMask> inner)
    : limit_(std::move(limit)), inner_(std::move(inner)), stage_(limit_->in_thought ? Stage::thought : Stage::before) {}

void ThoughtBudget::fill(std::span<uint64_t> bits) {
  if (stage_ == Stage::thought && thought_ >= limit_->tokens && !limit_->close.empty()) stage_ = Stage::closing;
  if (stage_ != Stage::closing) {
    if (inner_) return inner_->fill(bits);
    return std::fill(bits.begin(), bits.end(), ~0ull);
  }
  std::fill(bits.begin(), bits.end(), 0);
  const auto id = static_cast<size_t>(limit_->close[closed_]);
  bits[id / 64] |= 1ull << (id % 64);
}

bool ThoughtBudget::accept(int32_t id) {
  if (stage_ == Stage::closing && id != limit_->close[closed_]) return false;
  if (inner_ && !inner_->accept(id)) return false;
  read(id);
  return true;
}

void ThoughtBudget::read(int32_t id) {
  if (stage_ == Stage::behind) return;
  if (stage_ == Stage::closing) {
    if (++closed_ == limit_->close.size()) stage_ = Stage::behind;
    return;
  }
  const ThoughtMarks& marks = limit_->marks;
  text_ += spelling(*limit_->vocabulary, id);
  if (stage_ == Stage::before) {
    text_.erase(0, std::min(text_.size(), text_.find_first_not_of(" \t\r\n")));
    if (text_.starts_with(marks.open)) {
      stage_ = Stage::thought;
      text_.erase(0, marks.open.size());
      if (!text_.empty()) ++thought_;
    } else if (!std::string_view(marks.open).starts_with(text_)) {
      stage_ = Stage::behind;
    }
    return;
  }
  ++thought_;
  if (text_.find(marks.close) != text_.npos) stage_ = Stage::behind;
  else if (text_.size() > marks.close.size()) text_.erase(0, text_.size() - marks.close.size());
}

}  // namespace loraine
