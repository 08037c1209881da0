// See torch_pickle.h: what the calls and ids of a state dict mean (io/pickle).
#include "loraine/io/torch/torch_pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <string_view>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/pickle/pickle_machine.h"

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
// In a nested state: a shape, which is its tuple, and types, which are their names.
constexpr const char* kSize = "torch Size";
constexpr std::string_view kTypeNames[] = {"torch float16", "torch bfloat16", "torch float32", "torch float64", "torch uint8",
                                           "torch int8",    "torch int16",    "torch int32",   "torch int64",   "torch bool"};

const StorageType* storage_type(std::string_view global) {
  for (const StorageType& type : kStorageTypes)
    if (global == type.name) return &type;
  return nullptr;
}

class StateDict : private PickleMachine {
 public:
  StateDict(const std::string& file, std::string_view bytes) : PickleMachine(bytes, kMaxValues), file_(file) {}
  std::vector<PickledTensor> tensors();
  std::vector<PickledTensor> nested(nlohmann::json& values);

 private:
  enum Made { storage, tensor };  // storage: elements, its key, the global of its type; tensor: its place in tensors_

  [[noreturn]] void refuse(const std::string& message) const override {
    throw Error(ErrorKind::bad_data, fmt::format("{}: byte {} of its pickle: {}", file_, place(), message),
                "only a state dict of tensors is read; save the tensors as safetensors");
  }
  void check_protocol(unsigned version) const override {
    if (version != 2) refuse(fmt::format("is of pickle protocol {}, expected 2", version));
  }
  Index global(std::string name) override;
  Index call(Index callable, Index arguments) override;
  Index persistent(Index id) override;
  void build(Index object, Index) override { get(object, Kind::dict, "what gets attributes"); }  // _metadata, of no use here

  const Value& made(Index index, Made what, const char* name) const {
    const Value& found = get(index, Kind::made, name);
    if (found.what != what) refuse(std::string(name) + " is something else");
    return found;
  }
  Index whole() {
    const Index all = run();
    get(all, Kind::dict, "the whole");
    return all;
  }
  Index rebuild_tensor(const std::vector<Index>& arguments);
  std::vector<int64_t> sizes(Index tuple, const char* what) const;
  nlohmann::json value_of(Index index, const std::string& path, int depth, std::vector<PickledTensor>& found);

  const std::string& file_;
  std::vector<PickledTensor> tensors_;
  bool nested_ = false;
  size_t shown_ = 0;  // values that were made of a nested state
};

PickleMachine::Index StateDict::global(std::string name) {
  const bool setting = nested_ && (name == kSize || std::ranges::find(kTypeNames, name) != std::end(kTypeNames));
  if (!setting && name != kOrderedDict && name != kRebuildTensor && name != kRebuildParameter && !storage_type(name)) {
    std::replace(name.begin(), name.end(), ' ', '.');
    refuse("names " + in_quotes(name.substr(0, 200)) + ", which is no part of a state dict; it was not run");
  }
  return add({Kind::global, 0, std::move(name), {}});
}

// ('storage', type, key, device, elements)
PickleMachine::Index StateDict::persistent(Index given) {
  const std::vector<Index> id = get(given, Kind::tuple, "the id of a storage").items;
  if (id.size() != 5 || value(id[0]).kind != Kind::text || value(id[0]).text != "storage") refuse("an id that is not a storage's");
  const Value& type = get(id[1], Kind::global, "the type of a storage");
  if (!storage_type(type.text)) refuse("the type of a storage is something else");
  const std::string key = get(id[2], Kind::text, "the key of a storage").text;
  const int64_t elements = get(id[4], Kind::integer, "the size of a storage").integer;
  if (elements < 0) refuse("a storage of negative size");
  return add({Kind::made, elements, key, {id[1]}, storage});
}

std::vector<int64_t> StateDict::sizes(Index tuple, const char* what) const {
  const Value& numbers = get(tuple, Kind::tuple, what);
  if (numbers.items.size() > 64) refuse(std::string(what) + " has more than 64 dimensions");
  std::vector<int64_t> out;
  for (Index item : numbers.items) {
    const int64_t size = get(item, Kind::integer, what).integer;
    if (size < 0) refuse(std::string(what) + " has a negative number");
    out.push_back(size);
  }
  return out;
}

// _rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks[, metadata])
PickleMachine::Index StateDict::rebuild_tensor(const std::vector<Index>& arguments) {
  if (arguments.size() != 6 && arguments.size() != 7) refuse("a tensor is built from 6 or 7 values");
  const Value& from = made(arguments[0], storage, "the storage of a tensor");
  PickledTensor t;
  t.dtype = storage_type(value(from.items[0]).text)->dtype;
  t.storage = from.text;
  t.storage_elements = from.integer;
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
  return add({Kind::made, static_cast<int64_t>(tensors_.size() - 1), {}, {}, tensor});
}

PickleMachine::Index StateDict::call(Index callable, Index given) {
  const std::vector<Index> arguments = value(given).items;
  const std::string name = get(callable, Kind::global, "what is called").text;
  if (name == kOrderedDict) {
    if (!arguments.empty()) refuse("an OrderedDict is made with values");
    return add({Kind::dict, 0, {}, {}});
  }
  if (name == kRebuildTensor) return rebuild_tensor(arguments);
  if (name == kSize && arguments.size() == 1) {
    get(arguments[0], Kind::tuple, "a shape");
    return arguments[0];
  }
  if (name != kRebuildParameter) refuse(in_quotes(name) + " is called");
  if (arguments.size() != 3) refuse("a parameter is built from 3 values");  // (tensor, requires_grad, hooks)
  made(arguments[0], tensor, "the tensor of a parameter");
  return arguments[0];
}

std::vector<PickledTensor> StateDict::tensors() {
  const Value& all = value(whole());
  std::vector<PickledTensor> out;
  for (size_t i = 0; i < all.items.size(); i += 2) {
    const Value &key = value(all.items[i]), &one = value(all.items[i + 1]);
    if (key.kind != Kind::text) refuse("a name of the state dict is not a text");
    if (one.kind != Kind::made || one.what != tensor)
      refuse("the state dict has " + in_quotes(key.text.substr(0, 200)) + ", which is not a tensor");
    out.push_back(tensors_[static_cast<size_t>(one.integer)]);
    out.back().name = key.text;
  }
  return out;
}

std::vector<PickledTensor> StateDict::nested(nlohmann::json& values) {
  std::vector<PickledTensor> found;
  nested_ = true;
  values = value_of(whole(), "", 0, found);
  return found;
}

// A pickle may refer to one list from many places, each of which becomes values of its own: they are counted, and so is how deep they lie.
nlohmann::json StateDict::value_of(Index index, const std::string& path, int depth, std::vector<PickledTensor>& found) {
  if (depth > 16) refuse("holds lists within lists more than 16 deep");
  if (++shown_ > kMaxValues) refuse(fmt::format("holds more than {} values", kMaxValues));
  const Value& one = value(index);
  const auto below = [&](const std::string& name) { return path.empty() ? name : path + "." + name; };
  switch (one.kind) {
    case Kind::none: return nullptr;
    case Kind::boolean: return one.integer != 0;
    case Kind::integer: return one.integer;
    case Kind::real: return std::bit_cast<double>(one.integer);
    case Kind::text: return one.text;
    case Kind::tuple:
    case Kind::list: {
      nlohmann::json list = nlohmann::json::array();
      for (size_t i = 0; i < one.items.size(); ++i) list.push_back(value_of(one.items[i], below(std::to_string(i)), depth + 1, found));
      return list;
    }
    case Kind::dict: {
      nlohmann::json dict = nlohmann::json::object();
      for (size_t i = 0; i < one.items.size(); i += 2) {
        const Value& key = value(one.items[i]);
        if (key.kind != Kind::text && key.kind != Kind::integer) refuse("a key is neither a text nor a number");
        const std::string name = key.kind == Kind::text ? key.text : std::to_string(key.integer);
        dict[name] = value_of(one.items[i + 1], below(name), depth + 1, found);
      }
      return dict;
    }
    case Kind::made:
      if (one.what != tensor) break;
      found.push_back(tensors_[static_cast<size_t>(one.integer)]);
      found.back().name = path;
      return nullptr;
    case Kind::global:
      if (std::ranges::find(kTypeNames, one.text) == std::end(kTypeNames)) break;
      return one.text.substr(one.text.find(' ') + 1);
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
  return StateDict(file, {reinterpret_cast<const char*>(data), size}).tensors();
}

std::vector<PickledTensor> read_nested_state(const std::string& file, const unsigned char* data, size_t size, nlohmann::json& values) {
  return StateDict(file, {reinterpret_cast<const char*>(data), size}).nested(values);
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
