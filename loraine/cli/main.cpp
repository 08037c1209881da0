// The program: picks the command, and is the only place that turns an Error into an exit code.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <new>

#include "loraine/cli/commands.h"
#include "loraine/cli/language/language.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/transfers.h"
#include "loraine/core/context.h"
#include "loraine/core/error.h"
#include "loraine/core/signals.h"

namespace loraine {
namespace {

// A closed standard stream would give its number to the next file opened, and messages would be written into that file.
void fill_closed_streams() {
  for (int fd = 0; fd <= 2; ++fd)
    if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) == -1) return;
}

// OpenMP reads its settings when it is loaded, before main. Threads that spin while they wait slow down whatever else runs on the machine;
// a fraction of a millisecond of it, though, spares a step the thousands of times that a thread would be put to sleep and woken.
void wait_passively(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0 && setenv("GOMP_SPINCOUNT", "20000", 0) == 0)
    execv("/proc/self/exe", argv);  // on failure: go on as we are
}

void print_error(const std::string& message, const std::string& hint) {
  print_stderr("error: " + message + "\n" + (hint.empty() ? "" : "hint: " + hint + "\n"));
}

// Under LLaMA-Factory's names, a link to the program, its help says them; all else is the same.
void note_name(const char* called) {
  const std::string name = std::filesystem::path(called ? called : "").filename();
  if (name == "llamafactory-cli" || name == "lmf") set_program(name);
}

int run_program(const std::vector<std::string>& words) {
  try {
    if (words.empty() || words[0] == "--help" || words[0] == "-h") return run_help({});
    if (words[0] == "--version") return run_version({});
    choose_language("auto");
    take_signals();
    start_threads();
    show_transfers();
    return find_command(words[0]).run({words.begin() + 1, words.end()});
  } catch (const Error& error) {
    print_error(error.what(), error.hint);
    return exit_code(error.kind);
  } catch (const std::bad_alloc&) {
    print_error("out of memory",
                "`loraine train` with dry_run: true forecasts what a run needs, and with memory_limit what would need less");
    return exit_code(ErrorKind::out_of_memory);
  } catch (const std::exception& error) {
    print_error(std::string("internal: ") + error.what(), "this is a bug in loraine, please report it");
    return exit_code(ErrorKind::internal);
  }
}

}  // namespace
}  // namespace loraine

int main(int argc, char** argv) {
  loraine::fill_closed_streams();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away must not end a training run
  std::signal(SIGXFSZ, SIG_IGN);  // a file over the limit is a failed write with a message, like a full disk
  loraine::wait_passively(argv);
  loraine::note_name(argc > 0 ? argv[0] : nullptr);
  return loraine::run_program(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
}
