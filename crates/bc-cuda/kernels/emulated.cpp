// How kernels are called by their names; each file of kernels is a unit of its own.
#include "emulated.hpp"

// Runs a kernel over the grid and waits; says whether there is one of this name.
extern "C" int bc_launch(const char* name, const unsigned int* grid, void** arguments) {
    const auto found = bc::table().find(name);
    if (found == bc::table().end()) return 0;
    found->second(dim3(grid[0], grid[1], grid[2]), arguments);
    hipDeviceSynchronize();
    return 1;
}

extern "C" int bc_kernels() { return (int)bc::table().size(); }
