// README.md of a trained model: Hugging Face's model card (front matter, hyper-parameters, results). Called once, after the last
// evaluation.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loraine/train/records/python_number.h"

namespace loraine {

struct ModelCard {
  std::string model_name;                // last part of output_dir
  std::string base_model;                // model_name_or_path as given
  bool on_hub = true;                    // that is a hub id, and a link; else the path of a folder or file
  std::string finetuning_type = "lora";  // lora, oft: PEFT's front matter; full, freeze: transformers'
  std::vector<std::string> datasets;
  std::vector<std::string> extra_tags;  // full and freeze only: "dpo", "trl" …
  std::string license = "other";
  double learning_rate = 5e-5;
  int64_t train_batch_size = 1, eval_batch_size = 8, gradient_accumulation_steps = 1, devices = 1;
  int64_t seed = 42;
  std::string optimizer = "adamw_torch_fused", optimizer_args;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  std::string lr_scheduler_type = "cosine";
  double warmup = 0;                 // warmup_ratio if given, else warmup_steps
  std::optional<int64_t> max_steps;  // training_steps; absent: num_epochs
  double num_train_epochs = 3;
  bool fp16 = false;
  double label_smoothing_factor = 0;
  std::vector<OrderedJson> log_history;  // the last evaluation included
  std::string version = "0.1.0";         // of loraine
};

std::string model_card_text(const ModelCard& card);
void write_model_card(const std::string& output_dir, const ModelCard& card);  // output_dir/README.md

}  // namespace loraine
