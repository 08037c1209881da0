// See pickle_machine.h.
#include "loraine/io/pickle/pickle_machine.h"

#include <fmt/format.h>

#include <bit>

#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

const char* opcode_name(unsigned char code) {
  static constexpr struct {
    unsigned char code;
    const char* name;
  } kNames[] = {{'0', "POP"},
                {'1', "POP_MARK"},
                {'2', "DUP"},
                {'F', "FLOAT"},
                {'I', "INT"},
                {'L', "LONG"},
                {'P', "PERSID"},
                {'S', "STRING"},
                {'T', "BINSTRING"},
                {'V', "UNICODE"},
                {'d', "DICT"},
                {'g', "GET"},
                {'i', "INST"},
                {'l', "LIST"},
                {'o', "OBJ"},
                {'p', "PUT"},
                {0x82, "EXT1"},
                {0x83, "EXT2"},
                {0x84, "EXT4"},
                {0x8b, "LONG4"},
                {'B', "BINBYTES"},
                {'C', "SHORT_BINBYTES"},
                {0x8d, "BINUNICODE8"},
                {0x8e, "BINBYTES8"},
                {0x8f, "EMPTY_SET"},
                {0x90, "ADDITEMS"},
                {0x91, "FROZENSET"},
                {0x92, "NEWOBJ_EX"},
                {0x96, "BYTEARRAY8"},
                {0x97, "NEXT_BUFFER"},
                {0x98, "READONLY_BUFFER"}};
  for (const auto& known : kNames)
    if (known.code == code) return known.name;
  return "unknown";
}

}  // namespace

std::string_view PickleMachine::take(size_t bytes) {
  if (bytes > bytes_.size() - at_) refuse("is cut off");
  at_ += bytes;
  return bytes_.substr(at_ - bytes, bytes);
}

uint64_t PickleMachine::number(size_t bytes) {
  const std::string_view from = take(bytes);
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(from[i])) << (8 * i);
  return value;
}

std::string_view PickleMachine::line() {
  const size_t end = bytes_.find('\n', at_);
  if (end == bytes_.npos) refuse("a name is cut off");
  std::string_view whole = take(end + 1 - at_);
  whole.remove_suffix(1);
  return whole;
}

PickleMachine::Index PickleMachine::add(Value value) {
  if (values_.size() >= most_) refuse(fmt::format("holds more than {} values", most_));
  values_.push_back(std::move(value));
  return static_cast<Index>(values_.size() - 1);
}

const PickleMachine::Value& PickleMachine::get(Index index, Kind kind, const char* name) const {
  if (values_[index].kind != kind) refuse(std::string(name) + " is something else");
  return values_[index];
}

void PickleMachine::push(Kind kind, int64_t integer, std::string text, std::vector<Index> items) {
  push(add({kind, integer, std::move(text), std::move(items)}));
}

void PickleMachine::push_text(std::string_view text) {
  if (!is_utf8(text)) refuse("a text is not UTF-8");
  push(Kind::text, 0, std::string(text));
}

PickleMachine::Index PickleMachine::pop() {
  if (stack_.size() <= bottom()) refuse("takes a value where there is none");
  const Index index = stack_.back();
  stack_.pop_back();
  return index;
}

PickleMachine::Index PickleMachine::top() const {
  if (stack_.size() <= bottom()) refuse("uses a value where there is none");
  return stack_.back();
}

std::vector<PickleMachine::Index> PickleMachine::pop_to_mark() {
  if (marks_.empty()) refuse("closes what was never opened");
  std::vector<Index> items(stack_.begin() + static_cast<ptrdiff_t>(marks_.back()), stack_.end());
  stack_.resize(marks_.back());
  marks_.pop_back();
  return items;
}

std::vector<PickleMachine::Index> PickleMachine::pop_some(size_t count) {
  std::vector<Index> items(count);
  for (size_t i = count; i-- > 0;) items[i] = pop();
  return items;
}

void PickleMachine::set_items(const std::vector<Index>& pairs) {
  const Index target = top();
  get(target, Kind::dict, "what gets items");
  if (pairs.size() % 2) refuse("a key has no value");
  values_[target].items.insert(values_[target].items.end(), pairs.begin(), pairs.end());
}

void PickleMachine::append(const std::vector<Index>& items) {
  const Index target = top();
  get(target, Kind::list, "what gets appended to");
  values_[target].items.insert(values_[target].items.end(), items.begin(), items.end());
}

void PickleMachine::remember(uint64_t place) {
  if (place > most_) refuse(fmt::format("remembers a value under the number {}", place));
  memo_[place] = top();
}

void PickleMachine::recall(uint64_t place) {
  const auto found = memo_.find(place);
  if (found == memo_.end()) refuse(fmt::format("recalls the number {}, under which nothing was remembered", place));
  push(found->second);
}

void PickleMachine::step(unsigned char code) {
  switch (code) {
    case 0x80: return check_protocol(static_cast<unsigned char>(take(1)[0]));  // PROTO
    case 0x95: take(8); return;                                                // FRAME
    case 'c': {                                                                // GLOBAL
      std::string name(line());
      name += ' ';
      name += line();
      return push(global(std::move(name)));
    }
    case 0x93: {  // STACK_GLOBAL
      const std::vector<Index> names = pop_some(2);
      return push(global(get(names[0], Kind::text, "a module").text + " " + get(names[1], Kind::text, "a class").text));
    }
    case '(': marks_.push_back(stack_.size()); return;
    case ')': return push(Kind::tuple);
    case '}': return push(Kind::dict);
    case ']': return push(Kind::list);
    case 't': {
      std::vector<Index> items = pop_to_mark();
      return push(Kind::tuple, 0, {}, std::move(items));
    }
    case 0x85: return push(Kind::tuple, 0, {}, pop_some(1));
    case 0x86: return push(Kind::tuple, 0, {}, pop_some(2));
    case 0x87: return push(Kind::tuple, 0, {}, pop_some(3));
    case 0x81:   // NEWOBJ
    case 'R': {  // REDUCE
      const std::vector<Index> both = pop_some(2);
      get(both[1], Kind::tuple, "the arguments of a call");
      return push(call(both[0], both[1]));
    }
    case 'Q': return push(persistent(pop()));
    case 'q': return remember(number(1));
    case 'r': return remember(number(4));
    case 0x94: return remember(memo_.size());  // MEMOIZE
    case 'h': return recall(number(1));
    case 'j': return recall(number(4));
    case 0x8c: return push_text(take(number(1)));                        // SHORT_BINUNICODE
    case 'X': return push_text(take(number(4)));                         // BINUNICODE
    case 'U': return push(Kind::text, 0, std::string(take(number(1))));  // SHORT_BINSTRING
    case 'J': return push(Kind::integer, static_cast<int32_t>(number(4)));
    case 'K': return push(Kind::integer, static_cast<int64_t>(number(1)));
    case 'M': return push(Kind::integer, static_cast<int64_t>(number(2)));
    case 0x8a: {  // LONG1
      const size_t length = number(1);
      if (length > 8) refuse("a number beyond 64 bits");
      uint64_t value = number(length);
      if (length > 0 && length < 8 && value >> (8 * length - 1)) value |= ~uint64_t{0} << (8 * length);
      return push(Kind::integer, static_cast<int64_t>(value));
    }
    case 'G': return push(Kind::real, std::bit_cast<int64_t>(__builtin_bswap64(number(8))));  // BINFLOAT, big-endian
    case 0x88: return push(Kind::boolean, 1);
    case 0x89: return push(Kind::boolean, 0);
    case 'N': return push(Kind::none);
    case 's': return set_items(pop_some(2));
    case 'u': return set_items(pop_to_mark());
    case 'a': return append(pop_some(1));
    case 'e': return append(pop_to_mark());
    case 'b': {  // BUILD
      const Index attributes = pop();
      return build(top(), attributes);
    }
    default: refuse(fmt::format("has the opcode {} ({:#04x}), which plain data do not need", opcode_name(code), code));
  }
}

PickleMachine::Index PickleMachine::run() {
  for (;;) {
    opcode_at_ = at_;
    const auto code = static_cast<unsigned char>(take(1)[0]);
    if (code == '.') break;
    step(code);
  }
  if (at_ != bytes_.size()) refuse("has bytes behind its end");
  if (stack_.size() != 1 || !marks_.empty()) refuse("ends with values left over");
  return stack_[0];
}

}  // namespace loraine
