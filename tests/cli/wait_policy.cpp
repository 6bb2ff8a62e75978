// The program's threads sleep while they wait, unless the user says how they shall.
#include <catch2/catch.hpp>
#include <string>

#include "cli/program.hpp"

using namespace deltatune::test;

namespace {

const std::string kNothingSet = "unset OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME KMP_LIBRARY; export OMP_DISPLAY_ENV=verbose; ";

// The value that OpenMP took last, as it says itself; "": it does not name the variable.
std::string taken(const std::string& said, const std::string& variable) {
  const std::size_t at = said.rfind(variable + " = '");
  if (at == std::string::npos) return {};
  const std::size_t first = at + variable.size() + 4;
  return said.substr(first, said.find('\'', first) - first);
}

std::size_t loads_of(const std::string& said) {
  std::size_t count = 0;
  for (std::size_t at = said.find("DISPLAY ENVIRONMENT BEGIN"); at != std::string::npos; at = said.find("DISPLAY ENVIRONMENT BEGIN", at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("threads that wait spin for a moment only", "[program]") {
  const Outcome outcome = run_program({"inspect", "--model", "nowhere"}, kNothingSet);
  CHECK(outcome.code == 1);
  CHECK(outcome.err.find("error: ") != std::string::npos);
  CHECK(loads_of(outcome.err) == 2);
  const std::string spins = taken(outcome.err, "GOMP_SPINCOUNT"), block = taken(outcome.err, "KMP_BLOCKTIME");
  CHECK((spins == "1000" || block.starts_with("0")));
}

TEST_CASE("a user's own wait policy stays", "[program]") {
  for (const std::string own : {"OMP_WAIT_POLICY=active", "GOMP_SPINCOUNT=77", "KMP_BLOCKTIME=9", "KMP_LIBRARY=turnaround"}) {
    INFO(own);
    const Outcome outcome = run_program({"inspect", "--model", "nowhere"}, kNothingSet + own);
    CHECK(loads_of(outcome.err) == 1);
    CHECK(taken(outcome.err, "GOMP_SPINCOUNT") != "1000");
  }
  CHECK(loads_of(run_program({"--help"}, kNothingSet).err) == 1);
}

TEST_CASE("starting anew keeps the program's name, arguments, input and exit", "[program]") {
  const std::string program = environment("DELTATUNE_PROGRAM", DELTATUNE_PROGRAM);
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string();
  const auto shell = [&](const std::string& command) {
    const int status = std::system(("unset OMP_WAIT_POLICY GOMP_SPINCOUNT; " + command).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  // The name that it was called by, and an argument with blanks.
  std::filesystem::create_symlink(std::filesystem::absolute(program), folder / "another name");
  CHECK(shell(shell_quoted((folder / "another name").string()) + " inspect --help >" + out) == 0);
  CHECK(content_of(folder / "out").find("another name") != std::string::npos);
  CHECK(shell(shell_quoted(program) + " inspect --model 'no such folder' 2>" + out) == 1);
  CHECK(content_of(folder / "out").find("no such folder") != std::string::npos);
  // Called by way of the dynamic loader, the file that runs is the loader.
  for (const char* const loader : {"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"}) {
    if (!std::filesystem::exists(loader)) continue;
    CHECK(shell(std::string(loader) + " " + shell_quoted(program) + " inspect --model 'no such folder' 2>" + out) == 1);
    CHECK(content_of(folder / "out").find("no such folder") != std::string::npos);
  }
}
