// See grouped_source.h.
#include "loraine/io/quantised/grouped_source.h"

#include <algorithm>
#include <list>
#include <map>
#include <mutex>
#include <set>

#include "loraine/core/parallel.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine {
namespace {

class GroupedSource final : public TensorSource {
 public:
  GroupedSource(std::shared_ptr<QuantisedFolder> folder, std::vector<GroupedWeight> weights)
      : folder_(std::move(folder)), source_(folder_->source) {
    Dtype model_type = Dtype::F32;  // of what is not quantised; a quantised weight does not say its own
    for (const TensorInfo& info : source_->tensors())
      if (info.name.ends_with("norm.weight") && info.dtype <= Dtype::BF16) model_type = info.dtype;
    std::set<std::string> hidden;
    for (GroupedWeight& weight : weights) {
      hidden.insert(weight.made_of.begin(), weight.made_of.end());
      TensorInfo info{weight.name, model_type, {weight.rows, weight.cols}, weight.stored_as, weight.file};
      info.packed = weight.codes;
      infos_.push_back(std::move(info));
      auto place = std::make_unique<Place>();
      place->weight = std::move(weight);
      std::string name = place->weight.name;
      places_.emplace(std::move(name), std::move(place));
    }
    for (const TensorInfo& info : source_->tensors())
      if (!hidden.contains(info.name)) infos_.push_back(info);
    std::ranges::sort(infos_, {}, &TensorInfo::name);
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map(const TensorInfo& info) const override { return find_place(info) ? Tensor() : source_->map(plain(info)); }
  Tensor map_packed(const TensorInfo& info) const override {
    const Place* place = find_place(info);
    if (!place) return source_->map_packed(plain(info));
    return place->weight.in_place ? view(*place, place->weight.in_place) : Tensor();
  }
  Tensor take_packed(const TensorInfo& info, Buffer& memory) const override {
    const Place* place = find_place(info);
    if (!place) return source_->take_packed(plain(info), memory);
    if (place->weight.in_place) return {};
    memory = Buffer(static_cast<size_t>(bytes_of(place->weight.codes, place->weight.rows * place->weight.cols)));
    auto* codes = static_cast<uint8_t*>(memory.data());
    place->weight.take(codes);
    return view(*place, codes);
  }
  std::vector<StackPiece> map_pieces(const TensorInfo& info) const override {
    return find_place(info) ? std::vector<StackPiece>() : source_->map_pieces(plain(info));
  }
  void read(const TensorInfo& info, const Tensor& out) const override {
    const Place* place = find_place(info);
    if (!place) return source_->read(plain(info), out);
    check_destination(info, out);
    const GroupedWeight& weight = place->weight;
    const Buffer memory(weight.in_place ? 0 : static_cast<size_t>(bytes_of(weight.codes, weight.rows * weight.cols)));
    if (!weight.in_place) weight.take(static_cast<uint8_t*>(memory.data()));
    const QuantState state = state_of(*place, weight.in_place ? weight.in_place : static_cast<const uint8_t*>(memory.data()));
    Tensor codes(const_cast<void*>(state.codes), weight.codes, {weight.rows, weight.cols});
    codes.quant = &state;
    const int64_t cols = codes.cols();
    const auto read = [&](int64_t row) {
      std::vector<float> values(static_cast<size_t>(cols));
      dequantise(values.data(), codes.row_range(row, 1));
      store_f32(out, row * cols, values.data(), cols);
    };
    parallel_for(codes.rows(), read, (1 << 16) / cols + 1);
  }

 private:
  struct Place {
    GroupedWeight weight;
    mutable std::once_flag grouped;
    mutable GroupTables tables;
    mutable std::mutex states_mutex;
    mutable std::list<QuantState> states;  // one for each piece of memory that codes lie in
  };

  const Place* find_place(const TensorInfo& info) const {
    const auto found = places_.find(info.name);
    return found == places_.end() ? nullptr : found->second.get();
  }
  // Infos of plain tensors are copies: the wrapped source knows its own.
  const TensorInfo& plain(const TensorInfo& info) const { return *source_->find(info.name); }

  static QuantState state_of(const Place& place, const uint8_t* codes) {
    std::call_once(place.grouped, [&] { place.weight.group(place.tables); });
    QuantState state;
    state.codes = codes;
    state.cols = place.weight.cols;
    if (of_vectors(place.weight.codes)) state.vectors = &place.tables.vectors;
    else state.groups = &place.tables.groups;
    return state;
  }
  static Tensor view(const Place& place, const uint8_t* codes) {
    const QuantState state = state_of(place, codes);
    const std::lock_guard lock(place.states_mutex);
    if (place.states.empty() || !place.weight.in_place) place.states.push_back(state);
    Tensor all(const_cast<uint8_t*>(codes), place.weight.codes, {place.weight.rows, place.weight.cols});
    all.quant = &place.states.back();
    return all;
  }

  std::shared_ptr<QuantisedFolder> folder_;
  std::shared_ptr<TensorSource> source_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, std::unique_ptr<Place>> places_;
};

}  // namespace

std::unique_ptr<TensorSource> grouped_source(std::shared_ptr<QuantisedFolder> folder, std::vector<GroupedWeight> weights) {
  return std::make_unique<GroupedSource>(std::move(folder), std::move(weights));
}

}  // namespace loraine
