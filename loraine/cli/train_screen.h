// What `loraine train` says before and after its steps: what runs, on what data, one example with its trained tokens marked, the tables.
#pragma once
#include <string>
#include <vector>

#include "loraine/api/open_text.h"
#include "loraine/io/model_files.h"
#include "loraine/train/train.h"

namespace loraine {

// The heading of a run, a line per field; empty ones are left out.
struct RunHeading {
  std::string model, size, type, templated, method, machine;
};
RunHeading run_heading(const TrainConfig& config, const ModelFiles& files, const std::string& templated);
void print_heading(const RunHeading& heading);

// Counts of a set as a table, the rows that were dropped, and an example of it.
void print_data(const char* name, const Dataset& data);
void print_example(const Dataset& data, const Tokenizer* tokenizer);
// An example's text with what is trained between ⟦ and ⟧, or in colour; long stretches are shortened in the middle, letters that steer a
// terminal are spelt out. Without a tokenizer: token ids.
std::string example_text(const Example& example, const Tokenizer* tokenizer, bool colour);

// Warnings about rows that are cut (with the cutoff_len that would do), of which nothing is trained, or the end token alone. With strict
// they are errors.
void check_rows(const TrainConfig& config, const Dataset& data, const char* name);

void print_summary(const TrainSummary& summary, bool dry_run);

}  // namespace loraine
