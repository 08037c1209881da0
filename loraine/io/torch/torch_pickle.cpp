// Values live in one list and refer to each other by index, so that nothing recurses and a value that holds itself is no matter.
#include "loraine/io/torch/torch_pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr size_t kMaxValues = 4'000'000;

struct StorageType {
  const char* name;
  Dtype dtype;
};
constexpr StorageType kStorageTypes[] = {{"torch FloatStorage", Dtype::F32},     {"torch HalfStorage", Dtype::F16},
                                         {"torch BFloat16Storage", Dtype::BF16}, {"torch DoubleStorage", Dtype::F64},
                                         {"torch LongStorage", Dtype::I64},      {"torch IntStorage", Dtype::I32},
                                         {"torch ShortStorage", Dtype::I16},     {"torch CharStorage", Dtype::I8},
                                         {"torch ByteStorage", Dtype::U8},       {"torch BoolStorage", Dtype::Bool}};
constexpr const char* kOrderedDict = "collections OrderedDict";
constexpr const char* kRebuildTensor = "torch._utils _rebuild_tensor_v2";
constexpr const char* kRebuildParameter = "torch._utils _rebuild_parameter";

const StorageType* storage_type(std::string_view global) {
  for (const StorageType& type : kStorageTypes)
    if (global == type.name) return &type;
  return nullptr;
}

enum class Kind : uint8_t { none, boolean, integer, real, text, tuple, list, dict, global, storage, tensor };

using Index = uint32_t;

struct Value {
  Kind kind = Kind::none;
  int64_t integer = 0;       // integer, boolean; real: its bits; storage: elements; tensor: its place in tensors
  std::string text;          // text, global; storage: its key
  std::vector<Index> items;  // tuple, list; dict: keys and values in turn; storage: the global of its type
};

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
                {0x81, "NEWOBJ"},
                {0x82, "EXT1"},
                {0x83, "EXT2"},
                {0x84, "EXT4"},
                {0x8b, "LONG4"},
                {'B', "BINBYTES"},
                {'C', "SHORT_BINBYTES"},
                {0x8c, "SHORT_BINUNICODE"},
                {0x8d, "BINUNICODE8"},
                {0x8e, "BINBYTES8"},
                {0x8f, "EMPTY_SET"},
                {0x90, "ADDITEMS"},
                {0x91, "FROZENSET"},
                {0x92, "NEWOBJ_EX"},
                {0x93, "STACK_GLOBAL"},
                {0x94, "MEMOIZE"},
                {0x95, "FRAME"},
                {0x96, "BYTEARRAY8"},
                {0x97, "NEXT_BUFFER"},
                {0x98, "READONLY_BUFFER"}};
  for (const auto& known : kNames)
    if (known.code == code) return known.name;
  return "unknown";
}

class Machine {
 public:
  Machine(const std::string& file, const unsigned char* data, size_t size) : file_(file), data_(data), size_(size) {}
  std::vector<PickledTensor> state_dict();
  std::vector<PickledTensor> nested(nlohmann::json& values);

 private:
  const Value& run();  // the whole, a dict
  nlohmann::json value_of(Index index, const std::string& path, int depth, std::vector<PickledTensor>& found);

  [[noreturn]] void refuse(const std::string& message) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}: byte {} of its pickle: {}", file_, opcode_at_, message),
                "only a state dict of tensors is read; save the tensors as safetensors");
  }
  const unsigned char* take(size_t bytes) {
    if (bytes > size_ - at_) refuse("is cut off");
    at_ += bytes;
    return data_ + at_ - bytes;
  }
  uint64_t number(size_t bytes) {  // little-endian
    const unsigned char* from = take(bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(from[i]) << (8 * i);
    return value;
  }
  std::string_view line() {
    const void* end = std::memchr(data_ + at_, '\n', size_ - at_);
    if (!end) refuse("a name is cut off");
    const size_t length = static_cast<size_t>(static_cast<const unsigned char*>(end) - data_) - at_;
    const char* from = reinterpret_cast<const char*>(take(length + 1));
    return {from, length};
  }

  Index add(Value value) {
    if (values_.size() >= kMaxValues) refuse(fmt::format("holds more than {} values", kMaxValues));
    values_.push_back(std::move(value));
    return static_cast<Index>(values_.size() - 1);
  }
  void push(Index index) { stack_.push_back(index); }
  void push(Kind kind, int64_t integer = 0, std::string text = {}, std::vector<Index> items = {}) {
    push(add({kind, integer, std::move(text), std::move(items)}));
  }
  size_t bottom() const { return marks_.empty() ? 0 : marks_.back(); }
  Index pop() {
    if (stack_.size() <= bottom()) refuse("takes a value where there is none");
    Index index = stack_.back();
    stack_.pop_back();
    return index;
  }
  Index top() const {
    if (stack_.size() <= bottom()) refuse("uses a value where there is none");
    return stack_.back();
  }
  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) refuse("closes what was never opened");
    std::vector<Index> items(stack_.begin() + static_cast<ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  std::vector<Index> pop_some(size_t count) {
    std::vector<Index> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }
  const Value& get(Index index, Kind kind, const char* what) const {
    if (values_[index].kind != kind) refuse(std::string(what) + " is something else");
    return values_[index];
  }

  void step(unsigned char code);
  void set_items(const std::vector<Index>& pairs) {
    Index target = top();
    get(target, Kind::dict, "what gets items");
    if (pairs.size() % 2) refuse("a key has no value");
    values_[target].items.insert(values_[target].items.end(), pairs.begin(), pairs.end());
  }
  void append(const std::vector<Index>& items) {
    Index target = top();
    get(target, Kind::list, "what gets appended to");
    values_[target].items.insert(values_[target].items.end(), items.begin(), items.end());
  }
  void remember(uint64_t place) {
    if (place > kMaxValues) refuse(fmt::format("remembers a value under the number {}", place));
    memo_[place] = top();
  }
  void recall(uint64_t place) {
    auto found = memo_.find(place);
    if (found == memo_.end()) refuse(fmt::format("recalls the number {}, under which nothing was remembered", place));
    push(found->second);
  }
  void global();
  void persistent_id();
  void reduce();
  Index rebuild_tensor(const std::vector<Index>& arguments);
  std::vector<int64_t> sizes(Index tuple, const char* what) const;

  const std::string& file_;
  const unsigned char* data_;
  size_t size_, at_ = 0, opcode_at_ = 0;
  std::vector<Value> values_;
  std::vector<Index> stack_;
  std::vector<size_t> marks_;  // places in the stack
  std::unordered_map<uint64_t, Index> memo_;
  std::vector<PickledTensor> tensors_;
  size_t shown_ = 0;  // values that were made of a nested state
};

void Machine::global() {
  std::string name(line());
  name += ' ';
  name += line();
  if (name != kOrderedDict && name != kRebuildTensor && name != kRebuildParameter && !storage_type(name)) {
    std::replace(name.begin(), name.end(), ' ', '.');
    refuse("names " + in_quotes(name.substr(0, 200)) + ", which is no part of a state dict; it was not run");
  }
  push(Kind::global, 0, name);
}

// ('storage', type, key, device, elements)
void Machine::persistent_id() {
  const std::vector<Index> id = get(pop(), Kind::tuple, "the id of a storage").items;
  if (id.size() != 5 || values_[id[0]].kind != Kind::text || values_[id[0]].text != "storage") refuse("an id that is not a storage's");
  const Value& type = get(id[1], Kind::global, "the type of a storage");
  if (!storage_type(type.text)) refuse("the type of a storage is something else");
  const std::string key = get(id[2], Kind::text, "the key of a storage").text;
  const int64_t elements = get(id[4], Kind::integer, "the size of a storage").integer;
  if (elements < 0) refuse("a storage of negative size");
  push(Kind::storage, elements, key, {id[1]});
}

std::vector<int64_t> Machine::sizes(Index tuple, const char* what) const {
  const Value& value = get(tuple, Kind::tuple, what);
  if (value.items.size() > 64) refuse(std::string(what) + " has more than 64 dimensions");
  std::vector<int64_t> out;
  for (Index item : value.items) {
    const int64_t size = get(item, Kind::integer, what).integer;
    if (size < 0) refuse(std::string(what) + " has a negative number");
    out.push_back(size);
  }
  return out;
}

// _rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks[, metadata])
Index Machine::rebuild_tensor(const std::vector<Index>& arguments) {
  if (arguments.size() != 6 && arguments.size() != 7) refuse("a tensor is built from 6 or 7 values");
  const Value& storage = get(arguments[0], Kind::storage, "the storage of a tensor");
  PickledTensor t;
  t.dtype = storage_type(values_[storage.items[0]].text)->dtype;
  t.storage = storage.text;
  t.storage_elements = storage.integer;
  t.offset = get(arguments[1], Kind::integer, "the offset of a tensor").integer;
  t.shape = sizes(arguments[2], "the shape of a tensor");
  t.stride = sizes(arguments[3], "the stride of a tensor");
  if (t.shape.size() != t.stride.size()) refuse("a tensor has strides for another number of dimensions");
  if (t.offset < 0) refuse("a tensor begins before its storage");
  int64_t count = 1, last = t.offset;  // number of elements; place of the last one
  bool good = true, empty = false;
  for (size_t i = 0; i < t.shape.size(); ++i) {
    int64_t reach = 0;
    empty = empty || t.shape[i] == 0;
    good = good && !__builtin_mul_overflow(count, std::max<int64_t>(t.shape[i], 1), &count) &&
           !__builtin_mul_overflow(std::max<int64_t>(t.shape[i], 1) - 1, t.stride[i], &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  if (!good || (empty ? t.offset > t.storage_elements : last >= t.storage_elements))
    refuse(fmt::format("a tensor of shape [{}], stride [{}], offset {} reaches beyond its storage of {} elements", fmt::join(t.shape, ", "),
                       fmt::join(t.stride, ", "), t.offset, t.storage_elements));
  if (!empty && count > t.storage_elements)
    refuse(fmt::format("a tensor of shape [{}] shows a storage of {} elements several times over", fmt::join(t.shape, ", "),
                       t.storage_elements));
  tensors_.push_back(std::move(t));
  return add({Kind::tensor, static_cast<int64_t>(tensors_.size() - 1), {}, {}});
}

void Machine::reduce() {
  const std::vector<Index> arguments = get(pop(), Kind::tuple, "the arguments of a call").items;
  const std::string name = get(pop(), Kind::global, "what is called").text;
  if (name == kOrderedDict) {
    if (!arguments.empty()) refuse("an OrderedDict is made with values");
    push(Kind::dict);
  } else if (name == kRebuildTensor) {
    push(rebuild_tensor(arguments));
  } else if (name == kRebuildParameter) {  // (tensor, requires_grad, hooks)
    if (arguments.size() != 3) refuse("a parameter is built from 3 values");
    get(arguments[0], Kind::tensor, "the tensor of a parameter");
    push(arguments[0]);
  } else {
    refuse(in_quotes(name) + " is called");
  }
}

void Machine::step(unsigned char code) {
  switch (code) {
    case 0x80: {  // PROTO
      const unsigned version = *take(1);
      if (version != 2) refuse(fmt::format("is of pickle protocol {}, expected 2", version));
      return;
    }
    case 'c': return global();
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
    case 'R': return reduce();
    case 'Q': return persistent_id();
    case 'q': return remember(number(1));
    case 'r': return remember(number(4));
    case 'h': return recall(number(1));
    case 'j': return recall(number(4));
    case 'X': {  // BINUNICODE
      const size_t length = number(4);
      std::string text(reinterpret_cast<const char*>(take(length)), length);
      if (!is_utf8(text)) refuse("a text is not UTF-8");
      return push(Kind::text, 0, std::move(text));
    }
    case 'U': {  // SHORT_BINSTRING
      const size_t length = number(1);
      return push(Kind::text, 0, std::string(reinterpret_cast<const char*>(take(length)), length));
    }
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
    case 's': {
      std::vector<Index> pair = pop_some(2);
      return set_items(pair);
    }
    case 'u': return set_items(pop_to_mark());
    case 'a': return append(pop_some(1));
    case 'e': return append(pop_to_mark());
    case 'b':  // BUILD: attributes of the dict itself (_metadata), of no use here
      pop();
      get(top(), Kind::dict, "what gets attributes");
      return;
    default: refuse(fmt::format("has the opcode {} ({:#04x}), which no state dict needs", opcode_name(code), code));
  }
}

const Value& Machine::run() {
  for (;;) {
    opcode_at_ = at_;
    const unsigned char code = *take(1);
    if (code == '.') break;
    step(code);
  }
  if (at_ != size_) refuse("has bytes behind its end");
  if (stack_.size() != 1 || !marks_.empty()) refuse("ends with values left over");
  return get(stack_[0], Kind::dict, "the whole");
}

std::vector<PickledTensor> Machine::state_dict() {
  const Value& all = run();
  std::vector<PickledTensor> out;
  for (size_t i = 0; i < all.items.size(); i += 2) {
    const Value &key = values_[all.items[i]], &value = values_[all.items[i + 1]];
    if (key.kind != Kind::text) refuse("a name of the state dict is not a text");
    if (value.kind != Kind::tensor) refuse("the state dict has " + in_quotes(key.text.substr(0, 200)) + ", which is not a tensor");
    out.push_back(tensors_[static_cast<size_t>(value.integer)]);
    out.back().name = key.text;
  }
  return out;
}

std::vector<PickledTensor> Machine::nested(nlohmann::json& values) {
  run();
  std::vector<PickledTensor> found;
  values = value_of(stack_[0], "", 0, found);
  return found;
}

// A pickle may refer to one list from many places, each of which becomes values of its own: they are counted, and so is how deep they lie.
nlohmann::json Machine::value_of(Index index, const std::string& path, int depth, std::vector<PickledTensor>& found) {
  if (depth > 16) refuse("holds lists within lists more than 16 deep");
  if (++shown_ > kMaxValues) refuse(fmt::format("holds more than {} values", kMaxValues));
  const Value& value = values_[index];
  const auto below = [&](const std::string& name) { return path.empty() ? name : path + "." + name; };
  switch (value.kind) {
    case Kind::none: return nullptr;
    case Kind::boolean: return value.integer != 0;
    case Kind::integer: return value.integer;
    case Kind::real: return std::bit_cast<double>(value.integer);
    case Kind::text: return value.text;
    case Kind::tuple:
    case Kind::list: {
      nlohmann::json list = nlohmann::json::array();
      for (size_t i = 0; i < value.items.size(); ++i) list.push_back(value_of(value.items[i], below(std::to_string(i)), depth + 1, found));
      return list;
    }
    case Kind::dict: {
      nlohmann::json dict = nlohmann::json::object();
      for (size_t i = 0; i < value.items.size(); i += 2) {
        const Value& key = values_[value.items[i]];
        if (key.kind != Kind::text && key.kind != Kind::integer) refuse("a key is neither a text nor a number");
        const std::string name = key.kind == Kind::text ? key.text : std::to_string(key.integer);
        dict[name] = value_of(value.items[i + 1], below(name), depth + 1, found);
      }
      return dict;
    }
    case Kind::tensor:
      found.push_back(tensors_[static_cast<size_t>(value.integer)]);
      found.back().name = path;
      return nullptr;
    case Kind::global:
    case Kind::storage: break;
  }
  refuse("a value is neither a number, a text, a list nor a tensor");
}

void put_number(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}
void put_integer(std::string& out, int64_t value) {
  if (value < int64_t{1} << 31) {
    out += 'J';
    put_number(out, static_cast<uint64_t>(value), 4);
  } else {
    out += "\x8a\x08";
    put_number(out, static_cast<uint64_t>(value), 8);
  }
}
void put_text(std::string& out, std::string_view text) {
  out += 'X';
  put_number(out, text.size(), 4);
  out += text;
}
void put_global(std::string& out, std::string name) {
  std::replace(name.begin(), name.end(), ' ', '\n');
  out += 'c' + name + '\n';
}
void put_tuple(std::string& out, const std::vector<int64_t>& numbers) {
  out += '(';
  for (int64_t number : numbers) put_integer(out, number);
  out += 't';
}
void put_ordered_dict(std::string& out) {
  put_global(out, kOrderedDict);
  out += ")R";
}

}  // namespace

std::vector<PickledTensor> read_state_dict(const std::string& file, const unsigned char* data, size_t size) {
  return Machine(file, data, size).state_dict();
}

std::vector<PickledTensor> read_nested_state(const std::string& file, const unsigned char* data, size_t size, nlohmann::json& values) {
  return Machine(file, data, size).nested(values);
}

std::string write_state_dict(const std::vector<SafetensorsEntry>& entries) {
  std::string out = "\x80\x02";
  put_ordered_dict(out);
  out += '(';
  for (size_t i = 0; i < entries.size(); ++i) {
    const SafetensorsEntry& entry = entries[i];
    std::vector<int64_t> stride(entry.shape.size(), 1);
    for (size_t d = stride.size(); d-- > 1;) stride[d - 1] = stride[d] * std::max<int64_t>(entry.shape[d], 1);
    int64_t elements = 1;
    for (int64_t size : entry.shape) elements *= size;
    const auto* type =
        std::find_if(std::begin(kStorageTypes), std::end(kStorageTypes), [&](const StorageType& t) { return t.dtype == entry.dtype; });
    put_text(out, entry.name);
    put_global(out, kRebuildTensor);
    out += "((";
    put_text(out, "storage");
    put_global(out, type->name);
    put_text(out, std::to_string(i));
    put_text(out, "cpu");
    put_integer(out, elements);
    out += "tQ";
    put_integer(out, 0);
    put_tuple(out, entry.shape);
    put_tuple(out, stride);
    out += '\x89';
    put_ordered_dict(out);
    out += "tR";
  }
  return out + "u.";
}

}  // namespace loraine
