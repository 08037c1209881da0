// The conversation and the answer in the template that the reward model was trained with, through it, to the state of the last token.
#include "loraine/rollouts/checks/reward_model_check.h"

#include <algorithm>
#include <filesystem>

#include "loraine/api/loaded_model.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/train/evaluation/side_pass.h"
#include "loraine/train/objectives/reward_objective.h"

namespace loraine {
namespace {

constexpr int64_t kMoreRows = 64;  // that another template may put around a conversation

bool is_adapter_folder(const std::string& folder) {
  std::error_code ignored;
  return std::filesystem::exists(folder + "/adapter_config.json", ignored);
}

class RewardModelCheck : public RewardCheck {
 public:
  RewardModelCheck(CheckFields& fields, const TrainConfig& config) : place_(fields.place()) {
    const std::string folder = fields.needed_text("model", "the output_dir of a run with stage: rm");
    const std::optional<std::string> base = fields.text("base");
    TrainConfig c;
    c.strict = config.strict;
    c.cache_dir = config.cache_dir;
    c.hf_hub_token = config.hf_hub_token;
    c.ms_hub_token = config.ms_hub_token;
    c.model_name_or_path = folder;
    if (is_adapter_folder(folder)) {
      c.model_name_or_path = base.value_or(config.model_name_or_path);
      c.adapter_name_or_path = folder;
    } else if (base) {
      throw Error(ErrorKind::usage, place_ + ": base is given, and " + folder + " holds no adapter that would lie over it",
                  "leave base out");
    }
    try {
      loaded_ = load_for_answers(c);
      head_ = std::make_unique<ValueHead>(loaded_->model.config.hidden_size);
      head_->read(folder);
    } catch (const Error& error) { throw Error(error.kind, place_ + ": " + error.what(), error.hint); }
  }

  size_t bytes(int64_t rows) const override {
    return SidePass::bytes(loaded_->model, rows + kMoreRows, loaded_->adapter) +
           static_cast<size_t>(loaded_->model.config.hidden_size) * 64;
  }

  std::vector<double> judge(Context& ctx, std::span<const JudgedAnswer> answers) override {
    std::vector<double> rewards;
    for (const JudgedAnswer& answer : answers) {
      const Example example = loaded_->answered(answer.asked->conversation, answer.text, loaded_->adapter);
      const std::vector<const Example*> samples = {&example};
      const Batch batch = make_batch(samples);
      if (!pass_ || batch.rows() > rows_) {
        rows_ = std::max(rows_, (batch.rows() + kMoreRows - 1) / kMoreRows * kMoreRows);
        pass_.reset();
        pass_ = std::make_unique<SidePass>(loaded_->model, rows_, loaded_->adapter);
        scratch_ = Arena(static_cast<size_t>(2 * loaded_->model.config.hidden_size) * sizeof(float) + 256);
      }
      const Tensor hidden = pass_->hidden(ctx, batch, true);
      rewards.push_back(reward_scores(ctx, *head_, hidden, batch, samples, scratch_).at(0));
    }
    return rewards;
  }

 private:
  std::string place_;
  std::unique_ptr<LoadedModel> loaded_;
  std::unique_ptr<ValueHead> head_;
  std::unique_ptr<SidePass> pass_;
  Arena scratch_;
  int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<RewardCheck> reward_model_check(CheckFields& fields, const TrainConfig& config) {
  return std::make_unique<RewardModelCheck>(fields, config);
}

}  // namespace loraine
