// Who is evaluated, and with what the decoder runs over its batches. Used by the files of eval/.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "loraine/api/loaded_model.h"
#include "loraine/data/examples/example.h"
#include "loraine/train/evaluation/evaluate.h"

namespace loraine {

struct Subject {
  const LoadedModel& loaded;
  const AdapterSet* adapter = nullptr;  // nullptr: the model as it is
  std::function<void(const std::string& what, int64_t done, int64_t total)> progress = [](const std::string&, int64_t, int64_t) {};
};

class GpuAnswers;
class GpuDecoder;

// Whether `bytes` more fit memory_limit, the cgroup and the machine; check_room throws out_of_memory when they do not.
bool has_room(const Subject& subject, size_t bytes);
void check_room(const Subject& subject, size_t bytes);

// Memory of batches of up to `rows` rows, without a backward: on the GPU where the model is there.
class Forward {
 public:
  Forward(const Subject& subject, int64_t rows);  // checks its room
  ~Forward();
  Forward(const Forward&) = delete;
  Context ctx;
  Pass& pass() { return pass_; }
  // A batch through the decoder, to the pass's hidden states; or on the GPU, where gpu() then has them.
  void run(const Batch& batch);
  GpuDecoder* gpu() const;  // nullptr: it computes on the CPU
  // evaluate_examples of this model.
  EvalSums evaluate(std::span<const Example> examples, int64_t batch_size, const std::function<void(int64_t)>& on_batch,
                    const TokenLoss& loss = {}, const std::function<Tensor(const Batch&)>& reference = {});
  // Logits behind the last token of each prompt, of the tokens `ids` only: [prompts][ids].
  std::vector<std::vector<float>> last_logits(std::span<const std::vector<int32_t>> prompts, std::span<const int32_t> ids);

 private:
  const Model& model_;
  Arena memory_, scratch_;
  Activations activations_;
  Pass pass_;
  std::unique_ptr<GpuAnswers> gpu_;  // in the place of memory, scratch and activations
};

}  // namespace loraine
