# Recorded conversations of drivers, cut at any byte from either side (label protocol). See run in this folder.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
add_executable(cuts ${sources})
target_include_directories(cuts PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(cuts PRIVATE pgsluice_test_support)
if(TARGET pgsluice)
  add_test(NAME cuts COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_LIST_DIR}/run)
  set_tests_properties(cuts PROPERTIES LABELS protocol TIMEOUT 900
    ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>;PGSLUICE_CUTS=$<TARGET_FILE:cuts>;PGSLUICE_SLOW=${PGSLUICE_SLOW}")
endif()
