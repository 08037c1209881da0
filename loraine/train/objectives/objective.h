// What a run makes smaller: from what the model says of a micro-batch to a loss, the gradient of the hidden states, and figures for the
// log. The step loop, the plan, checkpoints and evaluation know objectives by this interface alone; make_objective.cpp lists them.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "loraine/data/examples/item.h"
#include "loraine/train/config/config.h"
#include "loraine/train/evaluation/side_pass.h"
#include "loraine/train/records/python_number.h"

namespace loraine {

class GpuDecoder;

// Named figures, added up over micro-batches until they are logged.
class LoggedFigures {
 public:
  void add(const std::string& name, double sum, double count = 1);
  void add_up(const std::string& name, double value) { add(name, value, 0); }  // logged as the sum itself
  bool empty() const { return figures_.empty(); }
  void clear() { figures_.clear(); }
  OrderedJson values() const;  // name → sum / count
  std::string text() const;    // to be kept in a checkpoint, and read again: the same bits
  void read(const std::string& text);

 private:
  struct Figure {
    std::string name;
    double sum = 0, count = 0;
  };
  std::vector<Figure> figures_;  // in the order in which they came first
};

// A micro-batch (or a batch of an evaluation) behind the forward of the model.
struct ObjectivePass {
  Context& ctx;
  const Model& model;
  const AdapterSet* set;  // that all rows run with, or nothing
  std::span<const Item> items;
  const Batch& batch;  // of Objective::samples(items), and of behind_samples
  Tensor hidden;       // [T, C] after the final norm
  Tensor d_hidden;     // [T, C] F32, all of it to be written; without data in an evaluation
  Arena& scratch;      // Objective::scratch_bytes of it are free
  SidePass* side;      // over the model itself, with the set or without; with needs_side() only
  SidePass* other;     // over ref_model, with its adapters; nothing: the reference is the base of the model
  LoggedFigures& figures;
  int64_t trained_rows = INT64_MAX;  // only the first so many rows of the batch have a gradient
  GpuDecoder* gpu = nullptr;         // where hidden and d_hidden lie there
  bool training() const { return d_hidden.data != nullptr; }
  LossSums reference_losses(const Batch& of) const { return other ? other->label_losses(ctx, of, true) : side->label_losses(ctx, of); }
};

// What a run begins with.
struct ObjectiveStart {
  const Model& model;
  const nlohmann::json& config_json;  // the model's config.json
  std::string folder;                 // of the adapter that is trained on, else of the model
  uint64_t seed = 0;
};

class Objective {
 public:
  virtual ~Objective() = default;

  // Of the settings and the model. LLaMA-Factory switches dropout off where a policy is compared with a reference. means_over_tokens: the
  // loss is a mean of −log p, to which the load-balancing loss of experts is added, and which begins below ln V.
  virtual bool keeps_dropout() const { return true; }
  virtual bool means_over_tokens() const { return false; }
  virtual bool loss_falls() const { return true; }                  // while the run goes well; else its size says nothing
  virtual bool needs_side() const { return false; }                 // passes beside the one that trains, over samples and beside_samples
  virtual void begin(const ObjectiveStart& /*start*/) {}            // once, when the adapter is attached
  virtual std::vector<Parameter> parameters() const { return {}; }  // that it trains itself, with gradients
  virtual size_t scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) const = 0;
  virtual size_t scratch_bytes_beside_gpu(const Model& /*model*/, int64_t /*rows*/) const { return 0; }  // where the passes are on a GPU

  // Of the data: the samples that an item trains on, in the order of the batch, and those that only go through passes beside.
  virtual void samples(const Item& item, std::vector<const Example*>& to) const = 0;
  virtual void beside_samples(const Item& /*item*/, std::vector<const Example*>& /*to*/) const {}
  // Samples that go forward in the same batch, behind those of all its items that train, and have no gradient.
  virtual void behind_samples(const Item& /*item*/, std::vector<const Example*>& /*to*/) const {}

  // Samples of at most so many tokens share the rows that they begin with (make_batch); 0, and before it is said: none does.
  void share_prefixes(int64_t up_to) { share_up_to_ = up_to; }
  int64_t share_up_to() const { return share_up_to_; }

  // Of a step: begin_update with all items of an update, then loss with each micro-batch. loss gives the micro-batch's share of the loss of
  // the update and writes its gradient; in an evaluation, without begin_update, the loss of the batch.
  virtual void begin_update(std::span<const Item> items, int64_t micro_batches) = 0;
  virtual double loss(const ObjectivePass& pass) = 0;
  virtual void complete(OrderedJson& /*values*/) const {}  // figures that follow from others, before they are logged

  // Of evaluations: begin_evaluations before the sets of one, evaluated behind the batches of each with figures that need all of its items.
  // Where files are written of what an evaluation has seen (calibrates), calibrate comes after one of the values that are saved.
  virtual void begin_evaluations() {}
  virtual void evaluated(OrderedJson& /*figures*/) {}
  virtual bool calibrates() const { return false; }
  virtual void calibrate() {}

  // Of the records: curves that are drawn beside the loss; what a checkpoint keeps beside parameters; files of its own beside the adapter.
  virtual std::vector<std::string> plotted() const { return {}; }
  virtual std::string state() const { return ""; }
  virtual void read_state(const std::string& /*state*/) {}
  virtual void write_files(const std::string& /*folder*/) const {}
  virtual void read_files(const std::string& /*folder*/) {}

 private:
  int64_t share_up_to_ = 0;
};

// That of stage and loss. check_train_config has let the settings through.
std::unique_ptr<Objective> make_objective(const TrainConfig& config);

// Whether the loss compares with the base as it was before training (or with ref_model).
bool compares_with_reference(const TrainConfig& config);

// Rows that items take of one batch, their samples cut to `cutoff` tokens, and with those beside them. Several take no more than each by
// itself, and less where samples share rows.
struct ItemRows {
  int64_t trained = 0, beside = 0;
};
ItemRows rows_of_items(const Objective& objective, std::span<const Item> items, int64_t cutoff = INT64_MAX);
inline ItemRows item_rows(const Objective& objective, const Item& item, int64_t cutoff = INT64_MAX) {
  return rows_of_items(objective, {&item, 1}, cutoff);
}

// The samples of several items, in their order.
std::vector<const Example*> samples_of(const Objective& objective, std::span<const Item> items);

// The batch of a pass over several items: their samples, and those behind. One adapter goes over all rows.
struct ItemsBatch {
  Batch batch;
  int64_t trained_rows = 0;  // of the samples that train; they are the first
  int64_t sample_rows = 0;   // that all samples would have if none shared any
};
ItemsBatch batch_of(const Objective& objective, std::span<const Item> items);

}  // namespace loraine
