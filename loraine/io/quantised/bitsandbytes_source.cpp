// Facts: transformers' and bitsandbytes' files (nn/modules.py, functional.py QuantState.as_dict). A four-bit weight P.weight has beside it
// P.weight.absmax, .quant_map, .quant_state.bitsandbytes__TYPE (JSON in bytes) and, with double quantisation, .nested_absmax and
// .nested_quant_map; an eight-bit one P.SCB and P.weight_format.
#include "loraine/io/quantised/bitsandbytes_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine {
namespace {

using Json = nlohmann::json;
constexpr std::string_view kStateMark = ".quant_state.bitsandbytes__", kRowScales = ".SCB";

std::string shape_text(const std::vector<int64_t>& shape) { return Tensor(nullptr, Dtype::F32, shape).shape_text(); }

// A weight with the tables that its state points to.
struct Place {
  Tensor codes;
  QuantState state;
  std::vector<float> map, absmax, nested_map;
};

class BitsandbytesSource : public TensorSource {
 public:
  explicit BitsandbytesSource(std::unique_ptr<TensorSource> source) : source_(std::move(source)) {
    for (const TensorInfo& info : source_->tensors())
      if (info.name.ends_with("norm.weight") && info.dtype <= Dtype::BF16) model_type_ = info.dtype;
    std::set<std::string> hidden;
    std::map<std::string, TensorInfo> found;
    for (const TensorInfo& info : source_->tensors()) {
      if (const size_t at = info.name.find(kStateMark); at != std::string::npos)
        add_four_bits(info, info.name.substr(0, at), found, hidden);
      else if (info.name.ends_with(kRowScales)) add_int8(info, info.name.substr(0, info.name.size() - kRowScales.size()), found, hidden);
    }
    for (const TensorInfo& info : source_->tensors()) {
      const auto quantised = found.find(info.name);
      if (quantised != found.end()) infos_.push_back(quantised->second);
      else if (!hidden.contains(info.name)) infos_.push_back(info);
    }
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map(const TensorInfo& info) const override { return info.packed ? Tensor() : source_->map(plain(info)); }
  Tensor map_packed(const TensorInfo& info) const override {
    return places_.contains(info.name) ? places_.at(info.name)->codes : source_->map_packed(plain(info));
  }
  Tensor take_packed(const TensorInfo& info, Buffer& memory) const override {
    return places_.contains(info.name) ? Tensor() : source_->take_packed(plain(info), memory);
  }
  void read(const TensorInfo& info, const Tensor& out) const override {
    if (!places_.contains(info.name)) return source_->read(plain(info), out);
    check_destination(info, out);
    const Tensor& codes = places_.at(info.name)->codes;
    const int64_t rows = codes.rows(), cols = codes.cols();
    const auto read = [&](int64_t row) {
      std::vector<float> values(static_cast<size_t>(cols));
      dequantise(values.data(), codes.row_range(row, 1));
      store_f32(out, row * cols, values.data(), cols);
    };
    parallel_for(rows, read, (1 << 18) / cols + 1);
  }

 private:
  // Infos of plain tensors are copies: the wrapped source knows its own.
  const TensorInfo& plain(const TensorInfo& info) const { return *source_->find(info.name); }

  [[noreturn]] void bad(const TensorInfo& info, const std::string& what) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}: {}", info.file, info.name, what), "save the quantised model again");
  }
  // The tensor `name` that belongs to the weight at hand; of the given type and number of elements.
  const TensorInfo& beside(const TensorInfo& weight, const std::string& name, Dtype dtype, int64_t elements) const {
    const TensorInfo* info = source_->find(name);
    if (!info) bad(weight, fmt::format("{} is missing, which it is quantised with", name));
    if (info->dtype != dtype || element_count(*info) != elements)
      bad(*info, fmt::format("has type {} and shape {}, expected {} elements of {}", info->stored_as, shape_text(info->shape), elements,
                             name_of(dtype)));
    return *info;
  }
  std::vector<float> floats(const TensorInfo& weight, const std::string& name, int64_t elements) const {
    std::vector<float> values(static_cast<size_t>(elements));
    source_->read(beside(weight, name, Dtype::F32, elements), Tensor(values.data(), Dtype::F32, {elements}));
    return values;
  }
  const void* mapped(const TensorInfo& info) const {
    const Tensor view = source_->map(info);
    if (!view.data) bad(info, "quantised weights are read from safetensors files only");
    return view.data;
  }

  void add_four_bits(const TensorInfo& state_info, const std::string& name, std::map<std::string, TensorInfo>& found,
                     std::set<std::string>& hidden) {
    const std::string type_name = state_info.name.substr(name.size() + kStateMark.size());
    if (type_name != "nf4" && type_name != "fp4")
      bad(state_info, in_quotes(type_name) + " is not a type of four bits, expected nf4 or fp4");
    const TensorInfo* weight = source_->find(name);
    if (!weight) bad(state_info, name + " is missing, which it belongs to");
    if (found.contains(name)) bad(state_info, "the weight has two states");
    const Dtype type = type_name == "nf4" ? Dtype::NF4 : Dtype::FP4;
    const Json state = read_state(state_info, type_name);
    const int64_t rows = state["shape"][0], cols = state["shape"][1], blocksize = state["blocksize"];
    const int64_t blocks = (rows * cols + blocksize - 1) / blocksize;
    const int64_t bytes = element_count(*weight) * static_cast<int64_t>(size_of(weight->dtype));
    if (bytes != (rows * cols + 1) / 2 || cols % 2 != 0)
      bad(*weight,
          fmt::format("holds {} bytes of codes, expected those of shape [{}, {}] with an even number of columns", bytes, rows, cols));

    auto place = std::make_unique<Place>();
    QuantState& q = place->state;
    q.codes = mapped(*weight);
    q.cols = cols;
    q.values = state["dtype"] == "bfloat16" ? Dtype::BF16 : state["dtype"] == "float16" ? Dtype::F16 : Dtype::F32;
    q.blocksize = blocksize;
    place->map = floats(*weight, name + ".quant_map", 16);
    q.map = place->map.data();
    hidden.insert({state_info.name, name + ".quant_map", name + ".absmax"});
    if (state.contains("nested_offset")) {
      q.nested_blocksize = state["nested_blocksize"];
      q.offset = state["nested_offset"].get<float>();
      q.absmax_codes = static_cast<const uint8_t*>(mapped(beside(*weight, name + ".absmax", Dtype::U8, blocks)));
      place->nested_map = floats(*weight, name + ".nested_quant_map", 256);
      place->absmax = floats(*weight, name + ".nested_absmax", (blocks + q.nested_blocksize - 1) / q.nested_blocksize);
      q.nested_map = place->nested_map.data();
      q.nested_absmax = place->absmax.data();
      hidden.insert({name + ".nested_quant_map", name + ".nested_absmax"});
    } else {
      place->absmax = floats(*weight, name + ".absmax", blocks);
      q.absmax = place->absmax.data();
    }
    add(name, type, rows, cols, std::move(place), *weight, found);
  }

  Json read_state(const TensorInfo& info, const std::string& type_name) const {
    if (info.dtype != Dtype::U8 || info.shape.size() != 1 || info.shape[0] > 4096) bad(info, "is not a short row of bytes");
    const Json state =
        Json::parse(std::string_view(static_cast<const char*>(mapped(info)), static_cast<size_t>(info.shape[0])), nullptr, false);
    const auto size = [&](const char* key) {
      return state.contains(key) && state[key].is_number_unsigned() ? state[key].get<uint64_t>() : 0;
    };
    const auto block = [](uint64_t n) { return n >= 2 && n <= 65536 && (n & (n - 1)) == 0; };
    constexpr uint64_t kMostElements = 1ull << 40;
    if (!state.is_object() || state.value("quant_type", Json()) != type_name || !block(size("blocksize")))
      bad(info, fmt::format("is not the JSON of a state with quant_type {} and a blocksize", type_name));
    const Json shape = state.value("shape", Json());
    if (!shape.is_array() || shape.size() != 2 || !shape[0].is_number_unsigned() || !shape[1].is_number_unsigned() ||
        shape[0].get<uint64_t>() == 0 || shape[1].get<uint64_t>() == 0 ||
        shape[0].get<uint64_t>() > kMostElements / shape[1].get<uint64_t>())
      bad(info, "shape is not that of a matrix");
    if (const Json dtype = state.value("dtype", Json()); dtype != "float32" && dtype != "float16" && dtype != "bfloat16")
      bad(info, fmt::format("dtype is {}, expected float32, float16 or bfloat16", dtype.dump()));
    if (state.contains("nested_offset") && (!state["nested_offset"].is_number() || !block(size("nested_blocksize")) ||
                                            state.value("nested_dtype", Json("float32")) != "float32"))
      bad(info, "has a nested state without offset, blocksize or type float32");
    return state;
  }

  void add_int8(const TensorInfo& scales, const std::string& module, std::map<std::string, TensorInfo>& found,
                std::set<std::string>& hidden) {
    const TensorInfo* weight = source_->find(module + ".weight");
    if (!weight) bad(scales, module + ".weight is missing, which it belongs to");
    if (weight->dtype != Dtype::I8 || weight->shape.size() != 2) bad(*weight, "has row scales, and is not an I8 matrix");
    if (const TensorInfo* format = source_->find(module + ".weight_format")) {
      if (format->dtype != Dtype::U8 || element_count(*format) != 1 || *static_cast<const uint8_t*>(mapped(*format)) != 0)
        bad(*format, "the rows lie in another order than 0 (\"row\"), which is not read");
      hidden.insert(format->name);
    }
    auto place = std::make_unique<Place>();
    place->absmax = floats(*weight, scales.name, weight->shape[0]);
    place->state.codes = mapped(*weight);
    place->state.cols = weight->shape[1];
    place->state.row_absmax = place->absmax.data();
    place->state.values = model_type_;
    hidden.insert(scales.name);
    add(weight->name, Dtype::INT8, weight->shape[0], weight->shape[1], std::move(place), *weight, found);
  }

  void add(const std::string& name, Dtype type, int64_t rows, int64_t cols, std::unique_ptr<Place> place, const TensorInfo& weight,
           std::map<std::string, TensorInfo>& found) {
    place->codes = Tensor(const_cast<void*>(place->state.codes), type, {rows, cols});
    place->codes.quant = &place->state;
    TensorInfo info{name, place->state.values, {rows, cols}, name_of(type), weight.file};
    info.packed = type;
    found.emplace(name, std::move(info));
    places_.emplace(name, std::move(place));
  }

  std::unique_ptr<TensorSource> source_;
  Dtype model_type_ = Dtype::F32;  // of what is not quantised; an eight-bit weight does not say its own
  std::vector<TensorInfo> infos_;
  std::map<std::string, std::unique_ptr<Place>> places_;
};

}  // namespace

std::unique_ptr<TensorSource> with_bitsandbytes(std::unique_ptr<TensorSource> source) {
  const auto& all = source->tensors();
  const bool quantised = std::any_of(all.begin(), all.end(), [](const TensorInfo& info) {
    return info.name.find(kStateMark) != std::string::npos || info.name.ends_with(kRowScales);
  });
  if (!quantised) return source;
  return std::make_unique<BitsandbytesSource>(std::move(source));
}

}  // namespace loraine
