// Facts: OCP Microscaling Formats 1.0 (E2M1 elements, E8M0 scales); transformers' integrations/mxfp4.py for the order: the low half of a
// byte comes first.
#include "loraine/io/quantised/mxfp4_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine {
namespace {

constexpr std::string_view kBlocks = "_blocks", kScales = "_scales";
constexpr int64_t kBlock = 32;

class Mxfp4Source : public TensorSource {
 public:
  explicit Mxfp4Source(std::unique_ptr<TensorSource> source) : source_(std::move(source)) {
    std::set<std::string> hidden;
    for (const TensorInfo& info : source_->tensors())
      if (info.name.ends_with(kBlocks) && info.shape.size() == 4) add(info, hidden);
    for (const TensorInfo& info : source_->tensors())
      if (!hidden.contains(info.name)) infos_.push_back(info);
    std::ranges::sort(infos_, {}, &TensorInfo::name);
  }
  bool any() const { return !weights_.empty(); }
  std::unique_ptr<TensorSource> give_back() { return std::move(source_); }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map(const TensorInfo& info) const override { return weights_.contains(info.name) ? Tensor() : source_->map(plain(info)); }
  Tensor map_packed(const TensorInfo& info) const override {
    return weights_.contains(info.name) ? Tensor() : source_->map_packed(plain(info));
  }
  std::vector<StackPiece> map_pieces(const TensorInfo& info) const override {
    const auto found = weights_.find(info.name);
    return found == weights_.end() ? source_->map_pieces(plain(info)) : std::vector{StackPiece{codes(info, found->second)}};
  }
  Tensor take_packed(const TensorInfo& info, Buffer& memory) const override {
    return weights_.contains(info.name) ? Tensor() : source_->take_packed(plain(info), memory);
  }
  void read(const TensorInfo& info, const Tensor& out) const override {
    const auto found = weights_.find(info.name);
    if (found == weights_.end()) return source_->read(plain(info), out);
    check_destination(info, out);
    const Tensor all = codes(info, found->second);
    const int64_t experts = info.shape[0], in = info.shape[1], columns = info.shape[2], groups = in / kBlock;
    const auto read = [&](int64_t i) {
      const int64_t e = i / groups, group = i % groups;
      std::vector<float> rows(static_cast<size_t>(kBlock * columns));
      float block[kBlock];
      for (int64_t o = 0; o < columns; ++o) {
        Tensor view = all;
        view.data = static_cast<uint8_t*>(all.data) + ((e * columns + o) * groups + group) * (kBlock / 2);
        view.rank = 2, view.shape[0] = 1, view.shape[1] = kBlock, view.shape[2] = 1;
        dequantise(block, view);
        for (int64_t b = 0; b < kBlock; ++b) rows[static_cast<size_t>(b * columns + o)] = block[b];
      }
      store_f32(out, (e * in + group * kBlock) * columns, rows.data(), kBlock * columns);
    };
    parallel_for(experts * groups, read);
  }

 private:
  // [E, out, in]
  static Tensor codes(const TensorInfo& info, const QuantState& state) {
    Tensor all(const_cast<void*>(state.codes), Dtype::MXFP4_CODES, {info.shape[0], info.shape[2], info.shape[1]});
    all.quant = &state;
    return all;
  }
  const TensorInfo& plain(const TensorInfo& info) const { return *source_->find(info.name); }

  const uint8_t* bytes(const TensorInfo& info) const {
    const Tensor view = info.dtype == Dtype::U8 ? source_->map(info) : Tensor();
    if (!view.data)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: {} is {}, expected U8 in a safetensors file", info.file, info.name, info.stored_as));
    return static_cast<const uint8_t*>(view.data);
  }
  void add(const TensorInfo& blocks, std::set<std::string>& hidden) {
    const std::string name = blocks.name.substr(0, blocks.name.size() - kBlocks.size());
    const TensorInfo* scales = source_->find(name + std::string(kScales));
    const std::vector<int64_t>& shape = blocks.shape;
    if (!scales || scales->shape != std::vector<int64_t>{shape[0], shape[1], shape[2]} || shape[3] != kBlock / 2)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: {} has shape {}, expected [experts, out, in / 32, 16] and beside it {}{} of [experts, out, in / 32]",
                              blocks.file, blocks.name, Tensor(nullptr, Dtype::U8, shape).shape_text(), name, kScales),
                  "download the model again");
    QuantState& state = weights_[name];
    state.codes = bytes(blocks);
    state.exponents = bytes(*scales);
    state.cols = shape[2] * kBlock;
    infos_.push_back({name, Dtype::BF16, {shape[0], shape[2] * kBlock, shape[1]}, "MXFP4", blocks.file});
    hidden.insert({blocks.name, scales->name});
  }

  std::unique_ptr<TensorSource> source_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, QuantState> weights_;  // tensors point into it
};

}  // namespace

std::unique_ptr<TensorSource> with_mxfp4(std::unique_ptr<TensorSource> source) {
  auto unpacked = std::make_unique<Mxfp4Source>(std::move(source));
  if (!unpacked->any()) return unpacked->give_back();
  return unpacked;
}

}  // namespace loraine
