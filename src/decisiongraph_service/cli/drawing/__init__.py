"""Pictures of a context graph as text: Graphviz DOT, Mermaid, SVG, and a tree for the terminal.

Pure: the same graph gives the same picture, whatever order its nodes and edges come in. Ids may hold any character;
each format escapes them its own way.
"""
