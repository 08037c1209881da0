// The commands of the program, one function each; args are what follows the command's name. main.cpp turns an Error into an exit code.
#pragma once
#include <atomic>
#include <string>
#include <vector>

namespace loraine {

int run_train(const std::vector<std::string>& args);
int run_compare(const std::vector<std::string>& args);
int run_chat(const std::vector<std::string>& args);
int run_serve(const std::vector<std::string>& args);
int run_api(const std::vector<std::string>& args);
int run_eval(const std::vector<std::string>& args);
// LLaMA-Factory's way to evaluate: `train` with do_predict, or with do_eval and no dataset, and without do_train.
bool only_evaluates(const std::vector<std::string>& args);
int run_export(const std::vector<std::string>& args);
// The same for a program with its own way to ask for an end (the Python module): no signal's handler is touched, and kExitStopped comes
// soon after `stop` became true.
int run_train(const std::vector<std::string>& args, const std::atomic<bool>& stop);
int run_eval(const std::vector<std::string>& args, const std::atomic<bool>& stop);
int run_export(const std::vector<std::string>& args, const std::atomic<bool>& stop);
// What a finished call of run_train or run_eval with these words left, as JSON: all_results.json ("{}" of a dry run), eval_results.json.
std::string training_results(const std::vector<std::string>& args);
std::string evaluation_results(const std::vector<std::string>& args);
int run_adapter(const std::vector<std::string>& args);
int run_upload(const std::vector<std::string>& args);
int run_convert(const std::vector<std::string>& args);
int run_trace(const std::vector<std::string>& args);
int run_data(const std::vector<std::string>& args);
int run_tokenize(const std::vector<std::string>& args);
int run_bench(const std::vector<std::string>& args);
int run_version(const std::vector<std::string>& args);
std::string version_text();  // "0.1.0"
int run_env(const std::vector<std::string>& args);
int run_help(const std::vector<std::string>& args);
void set_program(const std::string& name);  // how the program was called: its help says so

struct Command {
  const char* name;
  const char* summary;
  const char* example;  // a whole command line
  int (*run)(const std::vector<std::string>&);
};
const std::vector<Command>& commands();                // those that this build holds
const Command& find_command(const std::string& name);  // usage for another name, with what is near it or does the same

// Commands of LLaMA-Factory and of programs like it that are not here, and what is.
struct AbsentCommand {
  const char* name;
  bool llamafactory;  // else other programs'
  const char* instead;
};
const std::vector<AbsentCommand>& absent_commands();
std::string usage_text(const std::string& program = "loraine");  // the list of commands
std::string example_text(const std::string& command);            // how a command's help begins

}  // namespace loraine
